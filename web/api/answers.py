"""Replies as the JSON objects of OpenAI: whole ones, and chunks while they are written."""

import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_core.engine.request import Request, Token, TokenAlternative
from llama_core.engine.text import TextToken
from llama_core.tokenizer.tokenizer import Tokenizer

CUT = -9999.0  # OpenAI's number for "as good as impossible"
# How our ends are called there. What was stopped from outside ends as if it had been too long.
FINISHES = {"stop": "stop", "length": "length", "time_limit": "length", "shutdown": "length", "cancelled": "length"}


@dataclass
class Answer:
    """What the objects of one request have in common."""

    is_chat: bool
    model: str
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = f"{'chatcmpl' if self.is_chat else 'cmpl'}-{uuid.uuid4().hex}"

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request that is not streamed."""
        return self._object("chat.completion" if self.is_chat else "text_completion", choices) | {"usage": usage}

    def chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """A part of a streamed answer."""
        return self._object("chat.completion.chunk" if self.is_chat else "text_completion", choices)

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}

    def choice(
        self, index: int, text: str, finish: str | None, logprobs: Any, calls: Sequence[dict[str, Any]] = ()
    ) -> dict[str, Any]:
        """A whole reply, with the `calls` of tools in it."""
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message |= {"content": text or None, "tool_calls": list(calls)}
        body: dict[str, Any] = {"message": message} if self.is_chat else {"text": text}
        return {"index": index, **body, "finish_reason": finish, "logprobs": logprobs}

    def part(self, index: int, text: str, finish: str | None = None, logprobs: Any = None) -> dict[str, Any]:
        """A piece of a reply."""
        delta = {"content": text} if finish is None else {}
        body: dict[str, Any] = {"delta": delta} if self.is_chat else {"text": text}
        return {"index": index, **body, "finish_reason": finish, "logprobs": logprobs}

    def call(self, index: int, number: int, part: dict[str, Any]) -> dict[str, Any]:
        """A piece of a call of a tool, or the whole one."""
        delta = {"tool_calls": [{"index": number, **part}]}
        return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}

    def beginning(self, index: int) -> dict[str, Any]:
        """The first part of a chat's reply."""
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None, "logprobs": None}


def finish_of(reason: str | None, has_calls: bool = False) -> str:
    """OpenAI's word for the end of a reply."""
    finish = FINISHES.get(reason or "", "stop")
    return "tool_calls" if has_calls and finish == "stop" else finish


def usage_of(requests: Sequence[Request]) -> dict[str, Any]:
    """How many tokens were read and written. A prompt counts once, however many replies it got."""
    prompts = {id(request.prompt_ids): request for request in requests}.values()
    read = sum(request.prompt_tokens - request.begun_tokens for request in prompts)
    cached = sum(min(request.cached_tokens, request.prompt_tokens) for request in prompts)
    written = sum(len(request.token_ids) for request in requests)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


@dataclass
class Logprobs:
    """Log-probabilities of a reply's tokens, as the model gave them before temperature and cuts, in the form of the
    chat or of the completion API. In the first one each token has its id as well, and as `final_logprob` what it was
    drawn with."""

    tokenizer: Tokenizer
    is_chat: bool
    offset: int = 0  # characters of the reply so far

    def of(self, shown: Sequence[TextToken]) -> dict[str, Any]:
        """Those of the next tokens."""
        return self._of_chat(shown) if self.is_chat else self._of_completion(shown)

    def _of_chat(self, shown: Sequence[TextToken]) -> dict[str, Any]:
        content = []
        for token, _ in shown:
            content.append({**self._entry(token), "top_logprobs": [self._entry(other) for other in token.top]})
        return {"content": content, "refusal": None}

    def alternatives(self, token: Token) -> dict[str, Any]:
        """A token, and what could have come instead."""
        return {"token": self._entry(token), "alternatives": [self._entry(other) for other in token.top]}

    def _of_completion(self, shown: Sequence[TextToken]) -> dict[str, Any]:
        offsets = []
        for _, text in shown:
            offsets.append(self.offset)
            self.offset += len(text)
        return {
            "tokens": [self._text(token.id) for token, _ in shown],
            "token_logprobs": [_number(token.logprob) for token, _ in shown],
            "top_logprobs": [
                {self._text(other.id): _number(other.logprob) for other in token.top} for token, _ in shown
            ],
            "text_offset": offsets,
        }

    def _entry(self, token: Token | TokenAlternative) -> dict[str, Any]:
        return {
            "token": self._text(token.id),
            "logprob": _number(token.logprob),
            "bytes": list(self.tokenizer.bytes_of(token.id)),
            "id": token.id,
            "final_logprob": _number(token.final_logprob),
        }

    def _text(self, token_id: int) -> str:
        return self.tokenizer.bytes_of(token_id).decode(errors="replace")


def _number(logprob: float | None) -> float:
    return CUT if logprob is None or not math.isfinite(logprob) else logprob
