"""Messages → prompt ids, by the chat template of the checkpoint.

A template is a program by a stranger, so it runs in a process of its own (`template_process.py`). What people wrote
enters it shielded: no marker in their text becomes a special token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from llama_core.tokenizer.template_process import ChatError, Template, find_template
from llama_core.tokenizer.tokenizer import Tokenizer, without_surrogates

ROLES = ("system", "user", "assistant")

Messages = Sequence[Mapping[str, str]]  # {"role", "content"} each, the oldest first


@dataclass(frozen=True)
class Chat:
    """Turns conversations into the ids of prompts and training examples.

    `template` is the source of the checkpoint's chat template. Without one, the messages are joined to one text, which
    the model continues.
    """

    tokenizer: Tokenizer
    template: str | None = None

    @classmethod
    def from_folder(cls, folder: Path, tokenizer: Tokenizer) -> "Chat":
        """The chat template of a checkpoint: `chat_template.jinja`, else the one in `tokenizer_config.json`.

        Raises `ModelFileError` for files that cannot be read, `ChatError` for a template that is not Jinja.
        """
        chat = cls(tokenizer, find_template(folder))
        chat._template  # noqa: B018 - compiles the template: a broken one is refused now, not at the first message
        return chat

    @property
    def has_template(self) -> bool:
        """Whether the model was trained to chat."""
        return self.template is not None

    def prompt_ids(self, messages: Messages) -> list[int]:
        """The prompt for the assistant's next message.

        Raises `ChatError` for no messages, for malformed ones and for those that the template refuses.
        """
        for message in messages:
            _check_message(message)
        if not messages:
            raise ChatError("there are no messages; write one first")
        if self._template is None:
            text = "\n".join(message["content"] for message in messages)
            return self.tokenizer.encode(text, bos=self.tokenizer.bos_id is not None and self.tokenizer.begins_with_bos)
        [text] = self._render([(messages, True)])
        return self.tokenizer.encode_template(text)

    def training_ids(self, conversations: Sequence[Messages]) -> list[tuple[list[int], list[bool]]]:
        """The ids of each whole conversation and its loss mask: true for the tokens that the assistant wrote.

        Raises `ChatError` for messages that cannot be rendered, and for a template that renders the beginning of a
        conversation differently once more messages follow.
        """
        # Each conversation is rendered whole, up to the start of every reply, and up to the end of every reply but a
        # last one. The lengths of these renderings in ids say where replies lie in the whole.
        prefixes_of_each = [_prefixes(messages) for messages in conversations]
        texts = iter(self._render([prefix for prefixes in prefixes_of_each for prefix in prefixes]))
        return [
            _ids_and_loss_mask(prefixes, [self.tokenizer.encode_template(next(texts)) for _ in prefixes])
            for prefixes in prefixes_of_each
        ]

    def _render(self, prefixes: Sequence[tuple[Messages, bool]]) -> list[str]:
        """Each of these conversations as text. The flag adds the header of the assistant's next message."""
        if self._template is None:
            raise ChatError("this model has no chat template; give it text instead of conversations")
        spellings: dict[int | None, str] = {
            token_id: marker for marker, token_id in self.tokenizer.special_tokens.items()
        }
        eos_id = next(iter(self.tokenizer.eos_ids), None)
        texts = self._template.render(
            *(
                {
                    "messages": [{"role": row["role"], "content": self._shielded(row)} for row in messages],
                    "add_generation_prompt": add_generation_prompt,
                    "tools": None,
                    "documents": None,
                    "bos_token": spellings.get(self.tokenizer.bos_id, ""),
                    "eos_token": spellings.get(eos_id, ""),
                }
                for messages, add_generation_prompt in prefixes
            )
        )
        return [without_surrogates(text) for text in texts]

    def _shielded(self, message: Mapping[str, str]) -> str:
        shield = self.tokenizer.shield_reply if message["role"] == "assistant" else self.tokenizer.shield
        return shield(message["content"])

    @cached_property
    def _template(self) -> Template | None:
        return None if self.template is None else Template(self.template)


def _prefixes(messages: Messages) -> list[tuple[Messages, bool]]:
    """What is rendered of a conversation to find its replies; the whole first. See `Chat.training_ids`."""
    for message in messages:
        _check_message(message)
    replies = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    starts = [(messages[:i], True) for i in replies]
    ends = [(messages[: i + 1], False) for i in replies if i + 1 < len(messages)]
    return [(messages, False), *starts, *ends]


def _ids_and_loss_mask(
    prefixes: Sequence[tuple[Messages, bool]], rendered: Sequence[list[int]]
) -> tuple[list[int], list[bool]]:
    ids, *parts = rendered
    for (messages, _), part in zip(prefixes[1:], parts, strict=True):
        if ids[: len(part)] != part:
            raise ChatError(
                f"the chat template renders message {len(messages)} otherwise once others follow; "
                "give shorter conversations"
            )
    replies = (len(parts) + 1) // 2  # a reply at the end of the conversation has a start and no end
    loss_mask = np.zeros(len(ids), bool)
    for start, end in zip(parts[:replies], [*parts[replies:], ids], strict=False):
        loss_mask[len(start) : len(end)] = True
    return ids, loss_mask.tolist()


def _check_message(message: Mapping[str, str]) -> None:
    if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
        raise ChatError("a message has no text; expected role and content")
    if message.get("role") not in ROLES:
        raise ChatError(f"a message has the role {message.get('role')!r}; expected {', '.join(ROLES)}")
