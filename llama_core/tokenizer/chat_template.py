"""Messages → prompt ids, by the chat template of the checkpoint.

A template is a program by a stranger, so it runs in a process of its own (`template_process.py`). What people wrote
enters it shielded: no marker in their text becomes a special token.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.tokenizer.message_counts import MessageCounts, Overhead
from llama_core.tokenizer.template_process import ChatError, Template, TemplateRefusal, find_for_tools, find_template
from llama_core.tokenizer.tokenizer import Tokenizer, without_surrogates

ROLES = ("system", "user", "assistant", "tool")

Messages = Sequence[Mapping[str, Any]]  # {"role", "content"} each, the oldest first; templates may read "tool_calls"
Tools = Sequence[Mapping[str, Any]]  # as OpenAI has them
Rendering = tuple[Messages, bool]  # the flag asks for the header of the assistant's next message

_QUESTION, _SYSTEM = {"role": "user", "content": "a"}, {"role": "system", "content": "a"}
_ANSWER, _OTHER_ANSWER = {"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chat:
    """Turns conversations into the ids of prompts and training examples.

    `template` is the source of the checkpoint's chat template. Without one, the messages are joined to one text, which
    the model continues. `tool_template` is the one for prompts with tools, where the checkpoint has one for them.
    """

    tokenizer: Tokenizer
    template: str | None = None
    tool_template: str | None = None

    @classmethod
    def from_folder(cls, folder: Path, tokenizer: Tokenizer) -> "Chat":
        """The chat template of a checkpoint: `chat_template.jinja`, else the one in `tokenizer_config.json`.

        Raises `ModelFileError` for files that cannot be read, `ChatError` for a template that is not Jinja.
        """
        return cls.checked(tokenizer, find_template(folder), find_for_tools(folder))

    @classmethod
    def checked(cls, tokenizer: Tokenizer, template: str | None, tool_template: str | None = None) -> "Chat":
        """Raises `ChatError` for a template that is not Jinja."""
        chat = cls(tokenizer, template, tool_template)
        chat._template  # noqa: B018 - compiles the template: a broken one is refused now, not at the first message
        return chat

    @property
    def has_template(self) -> bool:
        """Whether the model was trained to chat."""
        return self.template is not None

    @cached_property
    def for_tools(self) -> "Chat":
        """The same, with the template for prompts with tools."""
        return self if self.tool_template is None else Chat(self.tokenizer, self.tool_template)

    def prompt_ids(self, messages: Messages, tools: Tools | None = None) -> list[int]:
        """The prompt for the assistant's next message, which may call `tools`. Where the template refuses system
        messages, the next question begins with them.

        Raises `ChatError` for no messages, for malformed ones and for those that the template refuses.
        """
        for message in messages:
            _check_message(message)
        if not messages:
            raise ChatError("there are no messages; write one first")
        if self._template is None:
            text = "\n".join(message["content"] for message in messages)
            return self.tokenizer.encode(text, bos=self.tokenizer.bos_id is not None and self.tokenizer.begins_with_bos)
        try:
            [text] = self._render([(messages, True)], tools)
        except TemplateRefusal:
            if messages[0]["role"] != "system" or self.accepts_system:
                raise
            [text] = self._render([(_system_in_questions(messages), True)], tools)
        return self.tokenizer.encode_template(text)

    @cached_property
    def accepts_system(self) -> bool:
        """Whether the template takes system messages. The first prompt with a refused one says so in the log."""
        if self._template is None:
            return True
        try:
            self._render([([_SYSTEM, _QUESTION], True)])
        except TemplateRefusal:
            if not self._can_render([_QUESTION]):  # the system message is not the reason
                return True
            _log.warning("The model takes no system prompt: it is put before the first question instead.")
            return False
        return True

    def _can_render(self, messages: Messages) -> bool:
        try:
            self._render([(messages, True)])
        except ChatError:
            return False
        return True

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end a reply: the end tokens of the tokenizer, and what the template writes after a reply."""
        return tuple(dict.fromkeys((*self.tokenizer.eos_ids, *self._ends_of_template())))

    def _ends_of_template(self) -> list[int]:
        """The special token that follows a reply at the end of a conversation, and the one before another question.

        Two conversations that differ in the reply alone are the same from its end on.
        """
        asked = [[_QUESTION, answer, *more] for more in ([], [_QUESTION]) for answer in (_ANSWER, _OTHER_ANSWER)]
        try:
            last, other_last, inner, other_inner = self._render([(messages, False) for messages in asked])
        except ChatError:  # no template, or one that refuses such a conversation
            return []
        ends = []
        for text, other in ((last, other_last), (inner, other_inner)):
            rest = os.path.commonprefix([text[::-1], other[::-1]])[::-1]
            marker = next(iter(self.tokenizer.markers_in(rest)), "")
            if text != other and marker and rest.lstrip().startswith(marker):
                ends.append(self.tokenizer.special_tokens[marker])
        return ends

    def token_counts(self, messages: Messages) -> list[int]:
        """How many tokens each message adds to a prompt, in time that is linear in the text that is new since earlier
        calls: the sum over the last messages is about the length of their prompt, and rarely less.

        The last count contains what every prompt has besides messages, such as the header of the reply. Raises
        `ChatError` as `prompt_ids` does.
        """
        for message in messages:
            _check_message(message)
        overhead = self._overhead
        counts = [overhead.per_message + self._count(message) for message in messages]
        return [*counts[:-1], counts[-1] + overhead.per_prompt] if counts else []

    def _count(self, message: Mapping[str, str]) -> int:
        text = message["content"]
        if message["role"] == "assistant" and self._overhead.drops_thoughts:
            text = text.rpartition("</think>")[2]
        return self._counts.of(text)

    @cached_property
    def _overhead(self) -> Overhead:
        if self._template is None:
            return Overhead(1, 1, False)  # the line break between messages; the begin token
        thinking = {"role": "assistant", "content": "<think>" + "a\n" * 9 + "</think>" + _ANSWER["content"]}
        short, *long = self._render(
            [([_QUESTION], True), *(([_QUESTION, answer, _QUESTION], True) for answer in (_ANSWER, thinking))]
        )
        question, answer = self._counts.of(_QUESTION["content"]), self._counts.of(_ANSWER["content"])
        first, second = (len(self.tokenizer.encode_template(text)) for text in (short, long[0]))
        per_message = (max(0, second - first - question - answer) + 1) // 2
        return Overhead(per_message, max(0, first - question - per_message), long[0] == long[1])

    @cached_property
    def _counts(self) -> MessageCounts:
        return MessageCounts(self.tokenizer)

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

    def _render(self, prefixes: Sequence[Rendering], tools: Tools | None = None) -> list[str]:
        """Each of these conversations as text.

        Fully shielded text hides characters that a template may look for (`<` in `'<b>' in message.content`). Where
        that changes the text, the lightly shielded one is taken, unless it has other control tokens.
        """
        if self._template is None:
            raise ChatError("this model has no chat template; give it text instead of conversations")
        shielded = [self._context(prefix, tools, lightly=False) for prefix in prefixes]
        light = [self._context(prefix, tools, lightly=True) for prefix in prefixes]
        again = [i for i, context in enumerate(light) if context != shielded[i]]
        texts = self._template.render(*shielded, *(light[i] for i in again))
        safe = [without_surrogates(text) for text in texts[: len(prefixes)]]
        for i, text in zip(again, texts[len(prefixes) :], strict=True):
            safe[i] = self._closer_to_typed(safe[i], without_surrogates(text))
        return safe

    def _closer_to_typed(self, safe: str, light: str) -> str:
        """Of two renderings the one that the template makes of the text as it was typed, if it is safe."""
        tokenizer = self.tokenizer
        if tokenizer.unshield(safe) == tokenizer.unshield(light):
            return safe
        return light if tokenizer.markers_in(light) == tokenizer.markers_in(safe) else safe

    def _context(self, prefix: Rendering, tools: Tools | None, lightly: bool) -> dict[str, object]:
        """The variables of the template."""
        messages, add_generation_prompt = prefix
        return {
            **self._special_variables,
            "messages": [self._shielded_message(row, lightly) for row in messages],
            "add_generation_prompt": add_generation_prompt,
            "tools": self._shielded(tools, False, lightly),
            "documents": None,
        }

    @cached_property
    def _special_variables(self) -> dict[str, str]:
        """`bos_token`, `eos_token` and the other roles that the tokenizer's files name, as in transformers."""
        spellings: dict[int | None, str] = {
            token_id: marker for marker, token_id in self.tokenizer.special_tokens.items()
        }
        eos_id = next(iter(self.tokenizer.eos_ids), None)
        ends = {"bos_token": spellings.get(self.tokenizer.bos_id, ""), "eos_token": spellings.get(eos_id, "")}
        roles = self.tokenizer.role_tokens.items()
        return {role: marker for role, marker in roles if marker in self.tokenizer.special_tokens} | ends

    def _shielded_message(self, row: Mapping[str, Any], lightly: bool) -> dict[str, Any]:
        shielded = {key: self._shielded(part, row["role"] == "assistant", lightly) for key, part in row.items()}
        return {**shielded, "role": row["role"]}

    def _shielded(self, value: Any, is_reply: bool, lightly: bool) -> Any:
        """The same with every text in it shielded."""
        if isinstance(value, Mapping):
            shielded = {key: self._shielded(part, is_reply, lightly) for key, part in value.items()}
            return {self._shielded(key, False, lightly): part for key, part in shielded.items()}
        if isinstance(value, (list, tuple)):
            return [self._shielded(part, is_reply, lightly) for part in value]
        if not isinstance(value, str):
            return value
        if lightly:
            return self.tokenizer.shield_markers(value, is_reply)
        return (self.tokenizer.shield_reply if is_reply else self.tokenizer.shield)(value)

    @cached_property
    def _template(self) -> Template | None:
        return None if self.template is None else Template(self.template)


def _system_in_questions(messages: Messages) -> Messages:
    """The messages with each system message at the start of the question after it, as llama.cpp does for templates
    without a system role (common/minja/chat-template.hpp)."""
    found: list[Mapping[str, str]] = []
    waiting = ""
    for message in [*messages, {"role": "user", "content": ""}]:
        if message["role"] == "system":
            waiting = "\n".join(filter(None, (waiting, message["content"])))
        elif message["role"] == "user":
            found.append({**message, "content": "\n".join(filter(None, (waiting, message["content"])))})
            waiting = ""
        else:
            found.append(message)
    return found if found[-1]["content"] else found[:-1]


def _prefixes(messages: Messages) -> list[Rendering]:
    """What is rendered of a conversation to find its replies; the whole first. See `Chat.training_ids`."""
    for message in messages:
        _check_message(message)
    replies = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    starts = [(messages[:i], True) for i in replies]
    ends = [(messages[: i + 1], False) for i in replies if i + 1 < len(messages)]
    return [(messages, False), *starts, *ends]


def _ids_and_loss_mask(prefixes: Sequence[Rendering], rendered: Sequence[list[int]]) -> tuple[list[int], list[bool]]:
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
