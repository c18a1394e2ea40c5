"""Every option of a training run, declared once; the command line and `--help` are made from the fields."""

from collections.abc import Sequence
from dataclasses import dataclass

from llama_core.errors import UserError
from llama_core.runtime.command_line import check_fields, option, read_arguments

DTYPES = ("float32", "bfloat16")


class TrainingError(UserError):
    """A training run that cannot be made; one line that names the option, file or step, and the remedy."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How one model is trained. Raises `TrainingError` for values that cannot work."""

    data: str = option('text to learn, or a .jsonl file of conversations: {"messages": [{"role", "content"}, …]}')
    out: str = option("folder for the model; the same command run again goes on from what is saved there")
    config: str = option("start from random weights: a folder with config.json and a tokenizer", "")
    model: str = option("start from trained weights instead: a folder or a Hub id", "")
    validation: str = option("file like --data that is measured and never learnt", "")
    steps: int = option("how many updates of the weights", 1000, minimum=1)
    batch_size: int = option("rows of tokens in an update", 16, minimum=1)
    sequence_length: int = option("tokens in a row", 256, minimum=2)
    accumulate: int = option("in how many parts an update is computed; more parts need less memory", 1, minimum=1)
    learning_rate: float = option("the highest learning rate", 1e-3, minimum=0.0)
    warmup: int = option("updates until the learning rate is at its highest", 50, minimum=0)
    final_rate: float = option("the last learning rate, as a share of the highest", 0.1, minimum=0.0, maximum=1.0)
    weight_decay: float = option("how fast weights of matrices fade (AdamW)", 0.1, minimum=0.0)
    clip: float = option("the longest gradient; longer ones are shortened to it", 1.0, minimum=1e-9)
    dropout: float = option("share of values dropped in each block", 0.0, minimum=0.0, maximum=0.9)
    dtype: str = option("number format of the computation; weights are updated in float32", "float32", choices=DTYPES)
    save_dtype: str = option("number format of the saved model", "bfloat16", choices=DTYPES)
    save_every: int = option("updates between two checkpoints", 100, minimum=1)
    seed: int = option("the same seed gives the same model", 0, minimum=0, maximum=2**31 - 1)

    def __post_init__(self) -> None:
        check_fields(self, TrainingError)
        if bool(self.config) == bool(self.model):
            raise TrainingError("give one of --config (random weights) and --model (trained weights)")
        if self.batch_size % self.accumulate:
            raise TrainingError(
                f"--batch-size {self.batch_size} cannot be computed in --accumulate {self.accumulate} equal parts"
            )


def read_options(arguments: Sequence[str]) -> TrainingOptions:
    """Options from a command line. `--help` prints and exits. Raises `TrainingError`."""
    return TrainingOptions(
        **read_arguments(
            TrainingOptions,
            arguments,
            TrainingError,
            prog="python -m llama_core.training",
            description="Train a Llama on your own text or conversations.",
        )
    )
