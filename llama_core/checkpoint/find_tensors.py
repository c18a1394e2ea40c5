"""Where every tensor of a model lies in the safetensors files of a folder, checked against its configuration.

What does not fit is refused from the headers, before memory is taken for weights.
"""

import dataclasses
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from llama_core.checkpoint.layout import CheckpointError, weight_paths
from llama_core.checkpoint.safetensors_reader import FORMATS, Stored, have_equal_numbers
from llama_core.checkpoint.weights.saved import SmallTensor, weight_tensors
from llama_core.model.checks import quote_value
from llama_core.model.config import LlamaConfig
from llama_core.model.params import hub_tensors

DIFFERENT = "the file and the config are from different models"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# What libraries store beside a model and what does not belong to it: the rotary tables of old versions of
# transformers, and the value head of reinforcement learning (TRL).
EXTRA_ENDS = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")
EXTRA_STARTS = ("v_head.", "value_head.")
# What the name of a tensor that is not part of the model says about the file.
REASONS = {
    r"\.(q(weight|uants|zeros)|minimums|g_idx|scales|weight_(packed|scale|scale_inv|zero_point)|(input|k|v)_scale)$": (
        "the weights are quantised; choose the unquantised repository of this model"
    ),
    r"\.lora_": "this is an adapter (LoRA); merge it into its model and choose the result",
    r"^(tok_embeddings|output)\.|\.attention\.w[qkvo]\.|\.feed_forward\.w[123]\.": "the names are those of Meta's own "
    "format; choose the repository in the Hub's format",
}


WeightTensor = Stored | SmallTensor


def find_tensors(folder: Path, config: LlamaConfig) -> tuple[LlamaConfig, dict[str, WeightTensor]]:
    """Every tensor of the model by its name, and the configuration that is true of them: a model that is said to be
    tied and has a head of its own is not tied.

    Raises `ModelFileError` if one is missing, unknown, or has another shape than the configuration asks for or a format
    that is not read.
    """
    paths, untied = weight_paths(folder), dataclasses.replace(config, tie_word_embeddings=False)
    shapes, found = dict(hub_tensors(untied)), dict[str, WeightTensor]()
    for stored in (_with_full_name(stored, shapes) for path in paths for stored in weight_tensors(path)):
        if stored.name in shapes:
            _check_tensor(stored, shapes[stored.name])
            first = found.setdefault(stored.name, stored)
            if first is not stored and not _are_equal(first, stored):
                raise CheckpointError(f"{stored.path.name}: tensor {stored.name} is there twice; download it again")
        elif not is_extra_tensor(stored.name):
            raise CheckpointError(_not_part_of_it(stored, config, shapes))
    if config.tie_word_embeddings and HEAD in found:
        embedding = found.setdefault(EMBEDDING, found[HEAD])  # of one matrix for both, either name may be stored
        config = config if _are_equal(found[HEAD], embedding) else untied
    names = [name for name, _ in hub_tensors(config)]
    _check_complete(found, names, paths[0].name if len(paths) == 1 else str(folder))
    return config, {name: found[name] for name in names}


def _are_equal(first: WeightTensor, second: WeightTensor) -> bool:
    """Whether two tensors hold the same numbers; small numbers are not compared."""
    return first is second or (
        isinstance(first, Stored) and isinstance(second, Stored) and have_equal_numbers(first, second)
    )


def is_extra_tensor(name: str) -> bool:
    """Whether a tensor that is not part of the model may be ignored."""
    return name.endswith(EXTRA_ENDS) or name.startswith(EXTRA_STARTS)


def _with_full_name(stored: WeightTensor, known: Collection[str]) -> WeightTensor:
    """The tensor with its name in a whole model; in a file that was saved without the head names lack the `model.`."""
    full_name = f"model.{stored.name}"
    is_short = stored.name not in known and full_name in known
    return dataclasses.replace(stored, name=full_name) if is_short else stored


def _not_part_of_it(stored: WeightTensor, config: LlamaConfig, known: Iterable[str]) -> str:
    wrapped = next((name for name in known if stored.name.endswith(f".{name}")), None)
    reason = next((words for pattern, words in REASONS.items() if re.search(pattern, stored.name)), None)
    if wrapped:
        prefix = quote_value(stored.name.removesuffix(wrapped))
        reason = f"it is wrapped in {prefix}; save the model that is inside the wrapper"
    return (
        f"{stored.path.name}: tensor {quote_value(stored.name)} is not part of the {config.num_hidden_layers}-layer "
        f"{config.model_type} that config.json describes; {reason or DIFFERENT}"
    )


def _check_complete(found: Collection[str], names: list[str], place: str) -> None:
    missing = [name for name in names if name not in found]
    if missing == [HEAD]:
        raise CheckpointError(
            f"{place}: tensor {HEAD} is missing: the model was saved without its head, and config.json does not tie it "
            "to the embedding; choose the whole model (...ForCausalLM)"
        )
    if missing:
        raise CheckpointError(
            f"{place}: tensor {missing[0]} is missing ({len(missing)} of {len(names)} are); download the model again"
        )


def _check_tensor(stored: WeightTensor, expected: tuple[int, ...]) -> None:
    if stored.shape != expected:
        raise CheckpointError(
            f"{stored.path.name}: tensor {stored.name} is {list(stored.shape)}, config.json says {list(expected)}; "
            f"{DIFFERENT}"
        )
    if isinstance(stored, Stored) and stored.format not in FORMATS:
        raise CheckpointError(
            f"{stored.path.name}: tensor {stored.name} is stored as {stored.format}, expected {', '.join(FORMATS)}; "
            "choose the unquantised repository of this model"
        )
