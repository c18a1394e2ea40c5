"""Failures of tiktoken and tokenizers, which are written in Rust, as errors that name a remedy."""

import contextlib
from collections.abc import Iterator

from llama_core.runtime.files import ModelFileError
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


@contextlib.contextmanager
def translate_failures(name: object) -> Iterator[None]:
    """Turns whatever goes wrong while the tokenizer in the file `name` is read into a `ModelFileError`."""
    try:
        with translate_panics(f"{name} is not a tokenizer that can be used"):
            yield
    except ModelFileError:
        raise
    except Exception as problem:  # tiktoken and tokenizers raise bare Exceptions
        words = " ".join(str(problem).split())[:200]
        raise TokenizerError(f"{name} is not a tokenizer that can be used ({words}); download it again") from problem
