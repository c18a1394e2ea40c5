"""Training a Llama on one's own text or conversations: `python -m llama_core.training --help`.

data.py turns a file into rows of tokens, update.py is the mathematics of one update, state.py saves a run so that it
can be resumed, curve.py draws the loss, run.py is the loop. The result is an ordinary checkpoint folder.
"""

from typing import TYPE_CHECKING, Any

from llama_core.training.options import TrainingError, TrainingOptions

if TYPE_CHECKING:
    from llama_core.training.run import train

__all__ = ["TrainingError", "TrainingOptions", "train"]


def __getattr__(name: str) -> Any:
    # Only now, so that options are read and refused where optax is not installed (requirements-train.txt).
    if name == "train":
        from llama_core.training.run import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
