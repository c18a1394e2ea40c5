"""A training run on disk: one safetensors file that is complete at any moment, so that a kill loses minutes at most."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from llama_core.training.options import TrainingError
from llama_core.training.update import TrainState


def state_file(out: Path) -> Path:
    """Where the run whose model is `out` is saved: beside that folder, which holds nothing but the model."""
    return out.with_name(f"{out.name}.training.safetensors")


def save_state(path: Path, state: TrainState, notes: Mapping[str, Any]) -> None:
    """Replace the saved state by this one, with `notes` (JSON) in the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.asarray(leaf) for name, leaf in _named(state)[0].items()}
    new = path.with_suffix(".new")
    safetensors.numpy.save_file(tensors, new, {"notes": json.dumps(notes)})
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(new, path)


def load_notes(path: Path) -> dict[str, Any] | None:
    """The notes of the saved state; None if nothing is saved. Raises `TrainingError` for a damaged file."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return json.loads(file.metadata()["notes"])
    except (safetensors.SafetensorError, OSError, TypeError, KeyError, ValueError) as problem:
        raise TrainingError(f"{path} is not the state of a training run ({problem}); remove it to start anew") from None


def load_state(path: Path, like: TrainState) -> TrainState:
    """The saved state, as a tree like `like`. Raises `TrainingError` if it is another model's."""
    names, tree = _named(like)
    leaves = []
    with safetensors.safe_open(path, framework="np") as file:
        stored = set(file.keys())
        for name, leaf in names.items():
            tensor = file.get_tensor(name) if name in stored else None
            if tensor is None or tensor.shape != leaf.shape:
                raise TrainingError(f"{path}: {name} is not as in this model; use another --out")
            leaves.append(jnp.asarray(tensor))
    return jax.tree.unflatten(tree, leaves)


def _named(state: TrainState) -> tuple[dict[str, Any], Any]:
    rows, tree = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in rows}, tree
