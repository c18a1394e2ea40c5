"""Where every tensor of a model lies in the safetensors files of a folder, checked against its configuration.

Only headers are read here: what does not fit is refused before memory is taken for weights.
"""

from pathlib import Path

from llama_core.checkpoint.layout import CheckpointError, weight_paths
from llama_core.checkpoint.safetensors_reader import FORMATS, Stored, stored_tensors
from llama_core.model.checks import quote_value
from llama_core.model.config import LlamaConfig
from llama_core.model.params import hub_tensors


def find_tensors(folder: Path, config: LlamaConfig) -> dict[str, Stored]:
    """Every tensor of the model by its name. Raises `ModelFileError` if one is missing, unknown, or has another shape
    than the configuration asks for or a format that is not read."""
    paths, shapes = weight_paths(folder), dict(hub_tensors(config))
    found: dict[str, Stored] = {}
    for stored in (stored for path in paths for stored in stored_tensors(path)):
        if stored.name in shapes:
            _check_tensor(stored, shapes[stored.name])
            found[stored.name] = stored
        elif not is_redundant_tensor(stored.name, config):
            raise CheckpointError(
                f"{stored.path.name}: tensor {quote_value(stored.name)} is not part of the "
                f"{config.num_hidden_layers}-layer {config.model_type} that config.json describes; the file and the "
                "config are from different models"
            )
    missing = [name for name in shapes if name not in found]
    if missing:
        raise CheckpointError(
            f"{paths[0].name if len(paths) == 1 else folder}: tensor {missing[0]} is missing "
            f"({len(missing)} of {len(shapes)} are); download the model again"
        )
    return found


def is_redundant_tensor(name: str, config: LlamaConfig) -> bool:
    """Whether a tensor repeats what the model has anyway: the rotary tables of old checkpoints, and the second copy of
    a tied embedding that some store."""
    return name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and config.tie_word_embeddings)


def _check_tensor(stored: Stored, expected: tuple[int, ...]) -> None:
    if stored.shape != expected:
        raise CheckpointError(
            f"{stored.path.name}: tensor {stored.name} is {list(stored.shape)}, config.json says {list(expected)}; the "
            "file and the config are from different models"
        )
    if stored.format not in FORMATS:
        raise CheckpointError(
            f"{stored.path.name}: tensor {stored.name} is stored as {stored.format}, expected {', '.join(FORMATS)}; "
            "choose the unquantised repository of this model"
        )
