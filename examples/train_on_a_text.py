"""Train the guide a few steps further on a small text, from Python: `python -m examples.train_on_a_text`. It needs
requirements-train.txt. The same from the command line, with more options: `python -m llama_core.training --help`."""

import tempfile
from pathlib import Path

from llama_core import load_checkpoint
from llama_core.training import TrainingOptions, train

GUIDE = Path(__file__).parents[1] / "weights" / "guide"
TEXT = "The llama looked at the glass, and the glass looked back.\n\n" * 200


def main() -> None:
    """Write the text to a file, train, load what came out."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "text.txt", Path(folder) / "trained"
        data.write_text(TEXT, encoding="utf-8")
        train(
            TrainingOptions(
                data=str(data), out=str(out), model=str(GUIDE), steps=20, batch_size=4, sequence_length=64, warmup=5
            )
        )
        print(f"{out.name}: {load_checkpoint(str(out)).parameter_count:,} parameters, in the Hub's format")


if __name__ == "__main__":
    main()
