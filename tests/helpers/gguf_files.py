"""GGUF files, written with the `gguf` package as llama.cpp's converter writes them: names by the package's own map,
rows of q and k permuted for the architecture llama."""

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|role|>' + m['role'] + '\n' + m['content'] | trim + '<|done|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|role|>assistant\n' }}{% endif %}"
)


def write_gguf(path, model, tokenizer=None, kind="F32", changes=None, tensors=(), **writer_options):
    """The transformers `model` as a GGUF file. `kind` is the format of its matrices. `changes` are keys to set, or to
    leave out where they are None; `tensors` are more of them, as name and numbers."""
    architecture = ARCHITECTURES[model.config.model_type]
    writer = gguf.GGUFWriter(path, architecture, **writer_options)
    keys = config_keys(model.config, architecture) | tokenizer_keys(tokenizer or byte_level(), model.config)
    for key, value in (keys | (changes or {})).items():
        add_key(writer, key, value)
    for name, numbers in model_tensors(model, architecture):
        stored = gguf.GGMLQuantizationType[kind if numbers.ndim > 1 else "F32"]
        writer.add_tensor(name, quantize(numbers, stored), raw_dtype=stored)
    for name, numbers in tensors:
        writer.add_tensor(name, np.float32(numbers))
    return finish(writer, path)


def rewrite_gguf(path, model, store):
    """The same with other tensors: `store(tensor)` gives the blocks of one and their kind, or None to leave it."""
    reader = gguf.GGUFReader(write_gguf(path.with_name("whole.gguf"), model))
    writer = gguf.GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            sub_type = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type)
    for tensor in reader.tensors:
        blocks, kind = store(tensor) or (tensor.data, None)
        writer.add_tensor(tensor.name, blocks, raw_dtype=kind)
    return finish(writer, path)


def mixed_gguf(path, model, kinds):
    """A GGUF file whose matrices have the formats in `kinds`: the first of which the name of a tensor begins with a
    key."""

    def store(tensor):
        kind = next((kind for start, kind in kinds.items() if tensor.name.startswith(start)), None)
        if kind is None or len(tensor.shape) == 1:
            return None
        shape = tuple(int(size) for size in reversed(tensor.shape))
        return random_blocks(kind, shape, seed=len(tensor.name)), kind

    return rewrite_gguf(path, model, store)


def finish(writer, path):
    """Write the file."""
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    return path


def add_key(writer, key, value):
    """A key, in the type that llama.cpp's converter uses for such values; no key for None."""
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list():
            writer.add_array(key, value)


def config_keys(config, architecture):
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    keys = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.sliding_window": getattr(config, "sliding_window", None),
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "rope.dimension_count": head_dim if architecture == "llama" else None,
        "vocab_size": config.vocab_size,
    }
    return {f"{architecture}.{key}": value for key, value in keys.items()}


def tokenizer_keys(library, config, pre="gpt-2"):
    """The keys of a byte-level BPE from the content of a `tokenizer.json`."""
    vocabulary = library["model"]["vocab"]
    special = {row["content"]: row["id"] for row in library["added_tokens"]}
    tokens = {token_id: token for token, token_id in {**vocabulary, **special}.items()}
    kinds = {token_id: 3 if token in special else 1 for token_id, token in tokens.items()}
    size = max(config.vocab_size, len(tokens)) if config else len(tokens)
    merges = library["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [tokens.get(i, f"[PAD{i}]") for i in range(size)],
        "tokenizer.ggml.token_type": [kinds.get(i, 5) for i in range(size)],
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }


def byte_level():
    """The smallest tokenizer: a token for each byte and a merge."""
    alphabet = sorted(gguf_bytes())
    vocabulary = {
        token: token_id for token_id, token in enumerate(["<|begin|>", "<|done|>", "<|role|>", *alphabet, "th"])
    }
    added = [{"content": token, "id": token_id} for token, token_id in vocabulary.items() if token_id < 3]
    return {"model": {"vocab": vocabulary, "merges": ["t h"]}, "added_tokens": added}


def gguf_bytes():
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel.alphabet()


def model_tensors(model, architecture):
    """Name and numbers of each tensor as the file has them."""
    config = model.config
    names = gguf.get_tensor_name_map(
        {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}[architecture],
        config.num_hidden_layers,
    )
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        numbers = tensor.float().numpy()
        projection = name.split(".")[-2]
        if architecture == "llama" and projection in heads:
            numbers = permute(numbers, heads[projection])
        yield names.get_name(name, try_suffixes=(".weight", ".bias")), numbers


def permute(numbers, heads):
    """As llama.cpp's convert_hf_to_gguf.py has it (LlamaModel.permute)."""
    pairs = numbers.reshape(heads, 2, numbers.shape[0] // heads // 2, *numbers.shape[1:])
    return pairs.swapaxes(1, 2).reshape(numbers.shape)


def unpermute(numbers, heads):
    pairs = numbers.reshape(heads, numbers.shape[0] // heads // 2, 2, *numbers.shape[1:])
    return pairs.swapaxes(1, 2).reshape(numbers.shape)


def random_blocks(kind, shape, seed=0):
    """Blocks of any format at random that hold usable numbers: uint8 [rows, bytes of a row]."""
    random = np.random.default_rng(seed)
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    count, found = shape[0] * shape[1] // block, []
    with np.errstate(all="ignore"):
        while sum(map(len, found)) < count:
            drawn = random.integers(0, 256, (4096, block_bytes), np.uint8)
            largest = np.abs(dequantize(drawn, kind).astype(np.float64)).max(axis=1)
            found.append(drawn[(largest < 4) & (largest > 1e-4)])
    return np.concatenate(found)[:count].reshape(shape[0], -1)
