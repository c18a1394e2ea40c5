"""Small checkpoints as the Hub has them, written by transformers and tokenizers: what our code is compared with; and
what loading one takes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
import tokenizers
import torch
import transformers

from llama_core import model_forward
from llama_core.model.params import placements

SHARED = Path(__file__).resolve().parents[3] / "shared"
STORIES = SHARED / "models" / "stories260K"

NORM = "model.norm.weight"
SPECIAL = ["<|begin|>", "<|end|>", "<|role|>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|role|>' + m['role'] + '\n' + m['content'] | trim + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|role|>assistant\n' }}{% endif %}"
)

TINY = dict(
    vocab_size=320,
    hidden_size=64,
    intermediate_size=112,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=4,
    max_position_embeddings=512,
    rms_norm_eps=1e-5,
    bos_token_id=0,
    eos_token_id=1,
    initializer_range=0.1,
)


# A program a shape, not one for each of its operations.
forward = jax.jit(model_forward, static_argnames="config")


def logits_after(model, ids, room=64):
    """Of a `Model`, for the token after `ids`, [V]; one program for all sequences that the room is enough for."""
    tokens = np.zeros((1, room), np.int32)
    tokens[0, : len(ids)] = ids
    return forward(model.params, tokens, model.config)[0][0, len(ids) - 1]


def reference_model(seed=0, family="Llama", **changes):
    """A random transformers model in float32; norms and biases are random too, so that a forgotten one shows."""
    torch.manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(**{**TINY, **changes})
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
            elif name.endswith(".bias"):
                parameter.normal_(0.0, 0.3)
    return model


def reference_logits(model, tokens):
    """Logits of a whole sequence, [B, T, V]."""
    with torch.no_grad():
        return model(torch.tensor(np.asarray(tokens))).logits.numpy()


def reference_greedy(model, prompt, count):
    """The likeliest next token, `count` times, each time from the whole sequence."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(reference_logits(model, [ids])[0, -1].argmax()))
    return ids[len(prompt) :]


def write_tokenizer(folder):
    """A byte-level BPE trained on a few sentences, with special tokens first and a chat template."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(["the cat sat on the mat", "the hat of the cat", "that is that"], trainer)
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<|begin|>", "eos_token": {"content": "<|end|>"}, "chat_template": TEMPLATE})
    )


def write_checkpoint(folder, seed=0, shard_size="5GB", **changes):
    """A whole checkpoint in `folder`; the transformers model that it holds."""
    model = reference_model(seed, **changes)
    model.save_pretrained(folder, max_shard_size=shard_size)
    write_tokenizer(folder)
    return model


def copy_checkpoint(source, target):
    """A copy to be damaged."""
    return Path(shutil.copytree(source, target))


def edit_json(path, **changes):
    """Change keys of a JSON file, or begin one."""
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **changes}))


def edit_tensors(folder, change):
    """Call `change` on the tensors of a checkpoint and save them again."""
    path = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)


def wide_layer():
    """One layer whose rows hold whole blocks of every GGUF format."""
    return reference_model(num_hidden_layers=1, hidden_size=256, intermediate_size=256, initializer_range=0.05)


def matrices(model):
    """Field and weight of all matrices of a `Model` that may be held in small numbers."""
    for placement in placements(model.config):
        holder = model.params if placement.layer is None else model.params.blocks[placement.layer]
        if placement.row.may_be_quantized:
            yield placement.row.field, getattr(holder, placement.row.field)


# In a process of its own.
MEASURE = """
import sys
from llama_core import load_checkpoint
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
load_checkpoint("random:tiny")
import llama_core.checkpoint.gguf.tensors
before = peak()
model = load_checkpoint(sys.argv[1])
print((peak() - before) * 2**20 / (4 * model.parameter_count))
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def loading_memory(path):
    """The peak of loading `path`, over the size of its weights in float32."""
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", MEASURE, str(path)], cwd=root, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return float(found.stdout)
