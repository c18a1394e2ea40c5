"""Panics of tiktoken and tokenizers, which are written in Rust, as errors that name a remedy."""

import contextlib
from collections.abc import Iterator

from llama_core.tokenizer.tokenizer import TokenizerError


@contextlib.contextmanager
def translate_panics(what: str) -> Iterator[None]:
    """Turns a panic into a `TokenizerError` that begins with `what`.

    PyO3 raises a panic as `PanicException`, a `BaseException` that no `except Exception` catches and no module exports.
    """
    try:
        yield
    except BaseException as problem:
        if type(problem).__name__ != "PanicException":
            raise
        words = " ".join(str(problem).split())[:200]
        raise TokenizerError(f"{what} ({words}); choose another model") from None
