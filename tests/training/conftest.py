"""A shape to start from, a text to learn, and options for a short run."""

import pytest
from checkpoints import TINY, write_tokenizer

from llama_core import LlamaConfig
from llama_core.training import TrainingOptions

TEXT = " ".join(
    f"Line {i}: the {animal} sat on the {place} and thought of {number}."
    for i, (animal, place, number) in enumerate(
        zip(
            ("cat", "owl", "hen", "fox") * 5,
            ("mat", "hat", "hill", "mill", "sea") * 4,
            ("rain", "bread", "one", "home", "nothing", "tea", "you") * 3,
            strict=False,
        )
    )
)[:1024]


@pytest.fixture(scope="module")
def shape(tmp_path_factory):
    """A folder to start from: config.json and a tokenizer, no weights."""
    folder = tmp_path_factory.mktemp("shape")
    write_tokenizer(folder)
    config = LlamaConfig(**{**TINY, "num_hidden_layers": 3, "eos_token_id": (1,), "initializer_range": 0.02})
    (folder / "config.json").write_text(config.to_json())
    return folder


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def options(shape, text_file, tmp_path):
    return TrainingOptions(
        data=str(text_file),
        config=str(shape),
        out=str(tmp_path / "out"),
        validation=str(text_file),
        steps=12,
        batch_size=4,
        sequence_length=32,
        save_every=4,
        warmup=2,
        seed=3,
    )
