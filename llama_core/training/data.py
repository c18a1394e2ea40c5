"""A file → documents of tokens → rows of a batch. The rows of a step depend on the seed and the step alone."""

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from llama_core.tokenizer.chat_template import Chat, ChatError
from llama_core.training.options import TrainingError

# How many rows are open for the next document before the oldest is closed: with 16, 3 % of the tokens are padding.
OPEN_ROWS = 16

# How many conversations go through the chat template in one call: it runs in another process.
AT_ONCE = 100


@dataclass(frozen=True)
class Document:
    """Tokens in reading order. Those that are `learnt` count in the loss, each predicted from all before it in its
    row."""

    ids: Int[np.ndarray, "N"]
    learnt: Bool[np.ndarray, "N"]


class Rows(NamedTuple):
    """T + 1 tokens per row, and the weight of each but the first in the loss."""

    tokens: Int[Any, "B T1"]
    weights: Float[Any, "B T"]


def read_documents(path: Path, chat: Chat) -> list[Document]:
    """The documents of a .jsonl file of conversations, in which only the assistant's words are learnt, or of a text.

    Raises `TrainingError` for files that cannot be read and conversations that the chat template refuses.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise TrainingError(f"{path} cannot be read as text in UTF-8 ({problem})") from None
    if path.suffix != ".jsonl":
        return [_text_document(text, chat)]
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise TrainingError(f"{path} holds no conversation; expected one per line")
    if not chat.has_template:
        raise TrainingError(f"{path} holds conversations, but the model has no chat template; give a text")
    groups = (lines[first : first + AT_ONCE] for first in range(0, len(lines), AT_ONCE))
    return [document for group in groups for document in _conversations(group, path, chat)]


def _text_document(text: str, chat: Chat) -> Document:
    tokenizer = chat.tokenizer
    begin = [tokenizer.bos_id] if tokenizer.bos_id is not None and tokenizer.begins_with_bos else []
    ids = np.array([*begin, *tokenizer.encode(text), *tokenizer.eos_ids[:1]], np.int32)
    return Document(ids, np.arange(len(ids)) >= len(begin))


def _conversations(lines: Sequence[tuple[int, str]], path: Path, chat: Chat) -> list[Document]:
    try:
        found = chat.training_ids([json.loads(line)["messages"] for _, line in lines])
    except (ValueError, TypeError, KeyError, RecursionError, ChatError) as problem:
        if len(lines) > 1:  # find out which one
            return [document for line in lines for document in _conversations([line], path, chat)]
        raise TrainingError(
            f"{path}, line {lines[0][0]} is not a conversation ({type(problem).__name__}: {problem})"
        ) from None
    return [Document(np.array(ids, np.int32), np.array(learnt, bool)) for ids, learnt in found]


def fingerprint(documents: Sequence[Document]) -> str:
    """A hash of all tokens, by which a resumed run recognises its data."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(document.ids.tobytes() + document.learnt.tobytes())
    return digest.hexdigest()[:16]


def pack(documents: Sequence[Document], length: int) -> Rows:
    """Pack documents into rows of `length` + 1 tokens, in the given order as far as they fit.

    A longer document continues in another row, which begins with the last token of the row before. The rest of a row is
    padding, of weight 0.
    """
    done: list[list[Document]] = []
    open_rows: list[tuple[list[Document], int]] = []
    for piece in (piece for document in documents for piece in _pieces(document, length)):
        size = len(piece.ids)
        place = next((i for i, (_, used) in enumerate(open_rows) if used + size <= length + 1), None)
        row, used = ([], 0) if place is None else open_rows.pop(place)
        row.append(piece)
        open_rows.append((row, used + size))
        if len(open_rows) > OPEN_ROWS:
            done.append(open_rows.pop(0)[0])
    done += [row for row, _ in open_rows]
    tokens, weights = np.zeros((len(done), length + 1), np.int32), np.zeros((len(done), length + 1), np.float32)
    for i, row in enumerate(done):
        ids = np.concatenate([piece.ids for piece in row])
        tokens[i, : len(ids)] = ids
        weights[i, : len(ids)] = np.concatenate([piece.learnt for piece in row])
    return Rows(tokens, weights[:, 1:])


def _pieces(document: Document, length: int) -> Iterator[Document]:
    ids, learnt = document.ids, document.learnt
    for start in range(0, max(1, len(ids) - 1), length):
        end = start + length + 1
        # The first token of a later piece was already learnt at the end of the piece before.
        known = np.arange(start, min(end, len(ids))) == start
        yield Document(ids[start:end], learnt[start:end] & ~known)


class Batches:
    """The rows of each step: every document once per epoch, in an order that depends on the seed and the epoch."""

    def __init__(self, documents: Sequence[Document], length: int, batch_size: int, seed: int):
        self._documents, self._length, self._seed = documents, length, seed
        self.batch_size = batch_size
        self.steps_per_epoch = max(1, len(pack(documents, length).tokens) // batch_size)
        self._epoch_rows = functools.lru_cache(maxsize=1)(self._pack_epoch)

    def __getitem__(self, step: int) -> Rows:
        epoch, place = divmod(step, self.steps_per_epoch)
        rows = self._epoch_rows(epoch)
        wanted = np.arange(place * self.batch_size, (place + 1) * self.batch_size) % len(rows.tokens)
        return Rows(rows.tokens[wanted], rows.weights[wanted])

    def _pack_epoch(self, epoch: int) -> Rows:
        generator = np.random.default_rng([self._seed, epoch])
        rows = pack([self._documents[i] for i in generator.permutation(len(self._documents))], self._length)
        order = generator.permutation(len(rows.tokens))
        return Rows(rows.tokens[order], rows.weights[order])
