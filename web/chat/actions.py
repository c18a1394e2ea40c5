"""What the page does when a person acts: from one conversation to the next, without a browser and without Gradio.

Most actions make a `PendingReply`: the conversation with the reply in it that is to be written, perhaps with its first
tokens given (`ask`, `retry`, `edit`, `branch`, `resume`). `replies.ReplyManager` then has the rest generated.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pydantic

from llama_core.checkpoint import Model
from llama_core.errors import UserError
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.tokenizer import Tokenizer, without_surrogates
from web.chat.codec import STRICT
from web.chat.conversation import ROOT, Conversation, HistoryError, Node, Record, check_size
from web.chat.stream import force, with_texts
from web.strings import TEXT

MAX_SEED = 2**32 - 1  # the engine draws from all of them, and each can be used again
ALTERNATIVES = 8
MAX_STOPS, MAX_STOP = 16, 100
ESCAPE, ESCAPED = re.compile(r"\\([nt\\])"), {"n": "\n", "t": "\t", "\\": "\\"}


class KnobError(UserError):
    """A control holds something that is not of its kind; one line for the person. `field` is the control's label."""

    def __init__(self, words: str, field: str):
        super().__init__(words)
        self.field = field


@dataclass(frozen=True)
class Controls:
    """What stands beside the conversation: `values` are the sampling parameters by name, `prefill` is how the reply has
    to begin, `stop` are the stop sequences, one per line."""

    values: Mapping[str, Any]
    system: str = ""
    prefill: str = ""
    seed: str = ""
    stop: str = ""


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Action:
    """What a person did on the page, as its scripts post it: message `node`, its token `index`, the alternative `id`,
    `text`, and the `seed` and `temperature` of a reply that does not take those beside the conversation, where the
    action has them. `side`: one of two replies to a question that are written side by side."""

    do: Literal["ask", "edit", "retry", "branch", "resume", "choose", "inspect"]
    node: int = -1
    index: int = -1
    id: int = -1
    text: str = ""
    seed: str = ""
    temperature: float | None = None
    side: Literal["", "left", "right"] = ""

    def adjust(self, controls: "Controls") -> "Controls":
        """The controls beside the conversation, with what the action brings instead. Two replies side by side do not
        share a seed, not even that one."""
        if self.seed or self.side:
            controls = replace(controls, seed=self.seed)
        if self.temperature is not None:
            controls = replace(controls, values={**controls.values, "temperature": self.temperature})
        return controls

    @property
    def begins_reply(self) -> bool:
        """Whether `begin_reply` takes it."""
        return self.do in ("ask", "edit", "retry", "branch", "resume")


def read_action(data: Any) -> Action:
    """The action that a page posted. Raises `HistoryError` for what no page of ours would post."""
    try:
        return Action(**data)
    except (pydantic.ValidationError, TypeError):
        raise HistoryError(TEXT["history_form"]) from None


@dataclass(frozen=True)
class PendingReply:
    """A reply to be written: message `node` of the conversation, going on after the records that it has. The page has
    the messages before number `first`."""

    conversation: Conversation
    node: int
    first: int


def begin_reply(action: Action, conversation: Conversation, model: Model, controls: Controls) -> PendingReply:
    """The reply that the action asks for. Raises `UserError`."""
    match action.do:
        case "ask":
            return ask(action.text, conversation, model, controls)
        case "edit":
            return edit(action.node, action.text, conversation, model, controls)
        case "retry":
            return retry(action.node, conversation, model, controls)
        case "branch":
            return branch(action.node, action.index, action.id, conversation, model)
        case "resume":
            return resume(action.node, conversation, model)
    raise HistoryError(TEXT["history_form"])


def ask(text: str, conversation: Conversation, model: Model, controls: Controls) -> PendingReply:
    """The person sent `text`. Raises `HistoryError`."""
    if not text.strip():
        raise HistoryError(TEXT["empty_message"])
    path = conversation.path()
    return _ask(Node("user", path[-1] if path else ROOT, text), conversation, model, controls)


def edit(number: int, text: str, conversation: Conversation, model: Model, controls: Controls) -> PendingReply:
    """Ask the user message `number` again in other words; the old ones stay as a version. Raises `HistoryError`."""
    old = _node(number, conversation, "user")
    if not text or not text.strip():
        raise HistoryError(TEXT["empty_message"])
    return _ask(Node("user", old.parent, text), conversation, model, controls)


def retry(number: int, conversation: Conversation, model: Model, controls: Controls) -> PendingReply:
    """Answer once more the question of the reply `number`; the reply stays as a version. Raises `HistoryError`."""
    question = _node(number, conversation, "assistant").parent
    return _reply_to(question, len(conversation.nodes), conversation, model, controls)


def branch(number: int, index: int, token_id: int, conversation: Conversation, model: Model) -> PendingReply:
    """Rewind the reply `number` to its token `index`, put the alternative `token_id` there and go on, as one more
    version. Raises `HistoryError`."""
    old = own_node(number, index, conversation, model)
    records = force(old.records, index, token_id)
    if records is None:
        raise HistoryError(TEXT["history_form"])
    node = Node("assistant", old.parent, records=records, model=model.name, model_id=model.id)
    return _start(node, len(conversation.nodes), conversation, model)


def resume(number: int, conversation: Conversation, model: Model) -> PendingReply:
    """Go on with the reply `number` where it ended. Raises `HistoryError`."""
    old = _node(number, conversation, "assistant")
    if old.model_id != model.id or not old.records:
        records = prefix_of(old.text, model)
    else:
        ends = model.config.eos_token_id
        records = old.records[:-1] if old.records[-1].id in ends else old.records
    node = replace(old, words="", records=records, finish="", problem="", facts="", model=model.name, model_id=model.id)
    return PendingReply(conversation.put(number, _decoded(node, model)), number, number)


def prefix_of(text: str, model: Model) -> tuple[Record, ...]:
    """Text as the first tokens of a reply; markers in it are plain text."""
    return tuple(Record(token_id, "", forced=True) for token_id in model.tokenizer.encode_plain(text, False))


def _ask(question: Node, conversation: Conversation, model: Model, controls: Controls) -> PendingReply:
    number = len(conversation.nodes)
    return _reply_to(number, number, conversation.add(question), model, controls)


def _reply_to(question: int, first: int, conversation: Conversation, model: Model, controls: Controls) -> PendingReply:
    # Lone surrogates, which JSON can carry and UTF-8 cannot, become U+FFFD.
    prefill = without_surrogates(controls.prefill)
    records = prefix_of(prefill, model) if prefill else ()
    node = Node("assistant", question, records=records, model=model.name, model_id=model.id)
    return _start(node, first, replace(conversation, system=controls.system, stop=controls.stop), model)


def _start(node: Node, first: int, conversation: Conversation, model: Model) -> PendingReply:
    number = len(conversation.nodes)
    conversation = conversation.add(_decoded(node, model))
    check_size(conversation)
    return PendingReply(conversation, number, first)


def _decoded(node: Node, model: Model) -> Node:
    # Without a chat template a reply goes on with the text before it.
    return replace(node, records=with_texts(node.records, model.tokenizer, is_start=model.chat.has_template))


def _node(number: int, conversation: Conversation, role: str) -> Node:
    if not _is_index(number, conversation.nodes) or conversation.nodes[number].role != role:
        raise HistoryError(TEXT["history_form"])
    return conversation.nodes[number]


def own_node(number: int, index: int, conversation: Conversation, model: Model) -> Node:
    """The reply, if it was written by this model (token ids mean nothing to another) and has that token. Raises
    `HistoryError`."""
    node = _node(number, conversation, "assistant")
    if node.model_id != model.id:
        raise HistoryError(TEXT["other_model"].format(model=node.model))
    if not _is_index(index, node.records):
        raise HistoryError(TEXT["history_form"])
    return node


def _is_index(number: int, rows: Sequence[object]) -> bool:
    return type(number) is int and 0 <= number < len(rows)


def sampling_params(controls: Controls) -> SamplingParams:
    """The page's controls as parameters; an empty seed draws a new one. Raises `UserError`, naming the control."""
    knobs = SamplingParams.knobs()
    numbers: dict[str, Any] = {}
    for name, value in controls.values.items():
        kind = type(knobs[name].default)
        is_number = isinstance(value, (int, float)) and math.isfinite(value)
        if not is_number or (kind is int and value != int(value)):
            label = TEXT[f"knob_{name}"]
            raise KnobError(TEXT["bad_knob"].format(label=label, found=value), label)
        numbers[name] = kind(value)
    digits = controls.seed.strip()
    if digits and not (re.fullmatch(r"[0-9]{1,20}", digits) and int(digits) <= MAX_SEED):
        raise KnobError(TEXT["bad_seed"].format(found=digits[:20], limit=MAX_SEED), TEXT["seed"])
    return SamplingParams(
        **numbers, seed=int(digits) if digits else None, stop=stop_strings(controls.stop), logprobs=ALTERNATIVES
    )


def stop_strings(lines: str) -> tuple[str, ...]:
    r"""Stop sequences, one per line, in which `\n` and `\t` stand for white space and `\\` for a backslash.

    Raises `KnobError`.
    """
    texts = tuple(ESCAPE.sub(lambda found: ESCAPED[found[1]], line) for line in lines.splitlines() if line)
    if len(texts) > MAX_STOPS or any(len(text) > MAX_STOP for text in texts):
        raise KnobError(TEXT["bad_stop"].format(limit=MAX_STOPS, length=MAX_STOP), TEXT["stop_at"])
    return texts


def stop_at_markers(params: SamplingParams, tokenizer: Tokenizer) -> SamplingParams:
    """The parameters with the stop sequences that name a special token as ids: as text that token is nothing, so a
    text to stop at would never be found."""
    ids = {text: token_id for text in params.stop if (token_id := tokenizer.special_id(text)) is not None}
    return replace(
        params, stop=tuple(text for text in params.stop if text not in ids), stop_token_ids=tuple(set(ids.values()))
    )


def moved(old: SamplingParams, new: SamplingParams) -> str:
    """Which controls differ, in words: "Temperature 0.7 → 1.2"."""
    return ", ".join(
        f"{TEXT[f'knob_{name}']} {getattr(old, name):g} → {getattr(new, name):g}"
        for name in SamplingParams.knobs()
        if getattr(old, name) != getattr(new, name)
    )
