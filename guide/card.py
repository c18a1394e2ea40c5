"""The model card: `python -m guide.card MODEL PREPARED` examines the trained model and writes README.md and
examples.json into its folder."""

import hashlib
import json
import sys
from pathlib import Path

from guide.evaluate import Examiner, examine, table
from guide.held_out import read_questions
from guide.prepare import CONVERSATIONS, RANKS, TRAINING_SEED
from llama_core import Engine, LlamaConfig, load_checkpoint
from llama_core.training.run import load_journal

# What the page offers to ask first.
EXAMPLES = ("What is temperature?", "Tell me a story about a llama", "How do I load a bigger model?", "What is 7 + 8?")
# The run that the weights come from before the last one: its corpus and tokenizer are those of an earlier commit.
FIRST_RUN = """```bash
git checkout 5774e6a    # "Guide: shorter answers, freer questions, the card"
python -m guide.prepare build/first
python -m llama_core.training --config build/first --data build/first/train.jsonl \\
    --validation build/first/validation.jsonl --out build/first-guide --steps 2600 --batch-size 16 \\
    --sequence-length 176 --learning-rate 0.003 --warmup 100 --final-rate 0.03 --save-every 100 --seed 1
```

This run was broken off after 900 updates (validation loss 0.2924), when the corpus had been given more phrasings.
SHA-256 of its `train.jsonl`: `31287d4972357d892c344b986190df4515dd73b2c57b51c5be049fbbc959baf4`.
The second run goes on from there:
"""


def write_card(folder: Path, prepared: Path) -> None:
    """Write README.md and examples.json into the model's folder; `prepared` is the folder of guide.prepare."""
    model = load_checkpoint(folder)
    with Engine(model, slots=8, max_seq_len=512) as engine:
        results, wrong = examine(Examiner(model, engine))
    journal = load_journal(folder)
    corpus = hashlib.sha256((prepared / "train.jsonl").read_bytes()).hexdigest()
    (folder / "README.md").write_text(_card(model, journal, corpus, results))
    (folder / "examples.json").write_text(json.dumps(EXAMPLES, indent=2) + "\n")
    print("\n".join(wrong), table(results), sep="\n")


def _card(model, journal, corpus: str, results: dict) -> str:
    step, loss = journal.validation[-1]
    options = [f"--{name.replace('_', '-')} {value}" for name, value in journal.run.items()
               if name not in ("data", "config", "model", "steps")]
    lines = " \\\n    ".join(" ".join(options[i: i + 4]) for i in range(0, len(options), 4))
    return f"""---
license: mit
language: en
pipeline_tag: text-generation
---

# The guide

A Llama of {model.parameter_count / 1e6:.1f} million parameters that explains the app it comes with, counts, adds small
numbers and tells tiny stories. It was trained from random weights by this project's own trainer, on questions and
answers that the project wrote itself; no text is from elsewhere. It knows nothing else, can be wrong, and is no
assistant.

{_anatomy(model.config)}

## How it was made

{FIRST_RUN}
```bash
python -m guide.prepare build/guide
python -m llama_core.training --model build/first-guide --data build/guide/train.jsonl \\
    --validation build/guide/validation.jsonl --out weights/guide \\
    --steps 1200 {lines}
python -m guide.card weights/guide build/guide
```

It was begun with `--steps 1200`, after 400 updates brought to an earlier end by the same command with `--steps 850`,
and then continued to its end by the command above.
Corpus: {CONVERSATIONS:,} conversations from seed {TRAINING_SEED}, SHA-256 of `train.jsonl`:
`{corpus}`.
Validation loss after {step:,} updates: **{loss:.4f}** nats a token. A run that is broken off goes on by the same
command. To make a guide in one run, give the last command `--config build/guide` instead of `--model`, and 3000 steps;
that has not been done yet.

![loss](loss.svg)

## Examination

`python -m guide.evaluate` asks {len(read_questions())} questions that training never saw (`guide/held_out.txt`,
written by hand apart from the patterns of the corpus), all 400 sums of two numbers under 20 in words that no pattern
makes, each at temperature 0, and 50 stories at temperature 0.8. All pairs of summands occur in training: the sums are
learnt by heart.

{table(results)}

An answer to a held-out question is right if it has all the words that stand beside the question in that file. A story
is well formed if the model ended it itself, after a full stop, with words of the corpus only. The patterns of the
corpus were widened once after an early model's mistakes in all other parts had been read, so those figures flatter;
the second paper was written after that and nothing was changed for it.
"""


def _anatomy(shape: LlamaConfig) -> str:
    return (f"{shape.num_hidden_layers} layers of width {shape.hidden_size}, {shape.num_attention_heads} query heads "
            f"and {shape.num_key_value_heads} key/value heads,\nfeed-forward {shape.intermediate_size}, "
            f"{shape.vocab_size} tokens ({RANKS} of byte-level BPE trained on the corpus, the others special),\ntied "
            "embedding, bfloat16. It reads the last three messages of a chat.")


if __name__ == "__main__":
    write_card(Path(sys.argv[1]), Path(sys.argv[2]))
