"""Messages → prompt ids by the checkpoint's chat template.

A template is a program by a stranger: it runs in a sandbox (`template_process.py`). What people wrote enters
it shielded, so that no marker in it becomes a special token.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from llama_core.tokenizer.template_process import ChatError, Template, find_template
from llama_core.tokenizer.tokenizer import Tokenizer, without_surrogates

ROLES = ("system", "user", "assistant")

# Marks a reasoning model puts around its thoughts. Its template looks for them in earlier replies, to leave these out.
THOUGHTS = re.compile(r"(</?think>)")


@dataclass(frozen=True)
class Chat:
    """How one model is talked to. Without a template a conversation is a text that the model continues."""

    tokenizer: Tokenizer
    template: str | None = None

    @classmethod
    def from_folder(cls, folder: Path, tokenizer: Tokenizer) -> "Chat":
        """The chat template of a checkpoint: `chat_template.jinja`, else the one in `tokenizer_config.json`.

        Raises `ModelFileError` for files that cannot be read, `ChatError` for a template that is not Jinja.
        """
        chat = cls(tokenizer, find_template(folder))
        chat._running  # noqa: B018 - a broken template is refused now, not at the first question
        return chat

    @property
    def has_template(self) -> bool:
        """Whether the model was made to chat."""
        return self.template is not None

    def prompt_ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The prompt for the assistant's next message. `messages` are `{"role", "content"}`, the oldest first.

        Raises `ChatError` for messages of another form and for those that the template refuses.
        """
        for message in messages:
            _check_message(message)
        if not messages:
            raise ChatError("there are no messages; write one first")
        if self._running is None:
            text = "\n".join(message["content"] for message in messages)
            return self.tokenizer.encode(text, bos=self.tokenizer.bos_id is not None and self.tokenizer.begins_with_bos)
        [text] = self._render([(messages, True)])
        return self.tokenizer.encode_template(text)

    def training_ids(self, conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[tuple[list[int], list[bool]]]:
        """The ids of each whole conversation, and which of them are the assistant's: what it has to learn to write.

        Raises `ChatError` for messages that cannot be rendered, and for a template by which a conversation does not
        begin with the prompt of each of its replies.
        """
        # Each as a whole, then up to the beginning of every reply, then up to the end of those that are not the last.
        wanted = [[(messages, False)] for messages in conversations]
        for messages, beginnings in zip(conversations, wanted, strict=True):
            for message in messages:
                _check_message(message)
            replies = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
            beginnings += [(messages[:i], True) for i in replies]
            beginnings += [(messages[: i + 1], False) for i in replies if i + 1 < len(messages)]
        texts = iter(self._render([beginning for beginnings in wanted for beginning in beginnings]))
        return [
            _learnt(beginnings, [self.tokenizer.encode_template(next(texts)) for _ in beginnings])
            for beginnings in wanted
        ]

    def _render(self, several: Sequence[tuple[Sequence[Mapping[str, str]], bool]]) -> list[str]:
        """Each of these conversations as text, with the head of the assistant's next message or without."""
        spellings = {token_id: marker for marker, token_id in self.tokenizer.special_tokens.items()}
        eos_id = next(iter(self.tokenizer.eos_ids), None)
        ends = {"bos_token": spellings.get(self.tokenizer.bos_id, ""), "eos_token": spellings.get(eos_id, "")}
        texts = self._running.render(
            *(
                {
                    "messages": [{"role": row["role"], "content": self._shielded(row)} for row in messages],
                    "add_generation_prompt": prompt,
                    "tools": None,
                    "documents": None,
                    **ends,
                }
                for messages, prompt in several
            )
        )
        return [without_surrogates(text) for text in texts]

    def _shielded(self, message: Mapping[str, str]) -> str:
        if message["role"] != "assistant":
            return self.tokenizer.shield(message["content"])
        parts = THOUGHTS.split(message["content"])
        return "".join(part if i % 2 else self.tokenizer.shield(part) for i, part in enumerate(parts))

    @cached_property
    def _running(self) -> Template | None:
        return None if self.template is None else Template(self.template)


def _learnt(
    beginnings: Sequence[tuple[Sequence[Mapping[str, str]], bool]], rendered: Sequence[list[int]]
) -> tuple[list[int], list[bool]]:
    ids, *parts = rendered
    for (messages, _), part in zip(beginnings[1:], parts, strict=True):
        if ids[: len(part)] != part:
            raise ChatError(
                f"the chat template renders message {len(messages)} otherwise once others follow; "
                "give shorter conversations"
            )
    learnt, replies = np.zeros(len(ids), bool), (len(parts) + 1) // 2
    for start, end in zip(parts[:replies], [*parts[replies:], ids], strict=False):
        learnt[len(start) : len(end)] = True
    return ids, learnt.tolist()


def _check_message(message: Mapping[str, str]) -> None:
    if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
        raise ChatError("a message has no text; expected role and content")
    if message.get("role") not in ROLES:
        raise ChatError(f"a message has the role {message.get('role')!r}; expected {', '.join(ROLES)}")
