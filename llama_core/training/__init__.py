"""Training a Llama on one's own text or conversations: `python -m llama_core.training --help`.

data.py turns a file into rows of tokens, update.py is the mathematics of one update, state.py saves a run so that it
can be resumed, curve.py draws the loss, run.py is the loop. The result is an ordinary checkpoint folder.
"""

from llama_core.training.options import TrainingError, TrainingOptions
from llama_core.training.run import train

__all__ = ["TrainingError", "TrainingOptions", "train"]
