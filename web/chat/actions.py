"""What the page does when a person acts: from one conversation to the next, without a browser and without Gradio.

An action first makes a `PendingReply`: the conversation with the reply in it that is to be written, perhaps with its first
tokens given (`ask`, `retry`, `edit`, `branch`, `resume`). `replies.ReplyManager` then writes on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.chat_template import ChatError
from web.chat.conversation import ROOT, Conversation, HistoryError, Node, Record, check_size, model_messages
from web.chat.stream import force, with_texts
from web.strings import TEXT

MAX_SEED = 2**31 - 1
ALTERNATIVES = 8
MAX_STOPS, MAX_STOP = 16, 100
ESCAPE, ESCAPED = re.compile(r"\\([nt\\])"), {"n": "\n", "t": "\t", "\\": "\\"}


class KnobError(ValueError):
    """A sampling control holds something that is not its kind of number; one line for the person."""


@dataclass(frozen=True)
class Controls:
    """What stands beside the conversation: `values` are the knobs by name, `prefill` is how the reply has to begin,
    `stop` are the texts that end it, one a line."""

    values: Mapping[str, Any]
    system: str = ""
    prefill: str = ""
    seed: str = ""
    stop: str = ""


@dataclass(frozen=True)
class PendingReply:
    """A reply to be written: message `node` of the conversation, going on after the records that it has."""

    conversation: Conversation
    node: int
    draft: str | None = None


def ask(text: str, conversation: Conversation, model: Any, controls: Controls) -> PendingReply:
    """The person sent `text`. Raises `HistoryError`."""
    if not text.strip():
        raise HistoryError(TEXT["empty_message"])
    path = conversation.path()
    question = Node("user", path[-1] if path else ROOT, text)
    return _reply_to(conversation.add(question), len(conversation.nodes), model, controls, draft="")


def edit(number: Any, text: Any, conversation: Conversation, model: Any, controls: Controls) -> PendingReply:
    """Ask the user message `number` again in other words; the old ones stay as a version. Raises `HistoryError`."""
    old = _node(number, conversation, "user")
    if not isinstance(text, str) or not text.strip():
        raise HistoryError(TEXT["empty_message"])
    return _reply_to(conversation.add(Node("user", old.parent, text)), len(conversation.nodes), model, controls)


def retry(number: Any, conversation: Conversation, model: Any, controls: Controls) -> PendingReply:
    """Answer once more the question of the reply `number`; the reply stays as a version. Raises `HistoryError`."""
    return _reply_to(conversation, _node(number, conversation, "assistant").parent, model, controls)


def branch(number: Any, index: Any, token_id: Any, conversation: Conversation, model: Any) -> PendingReply:
    """Rewind the reply `number` to its token `index`, put the alternative `token_id` there and go on, as one more
    version. Raises `HistoryError`."""
    old = own_node(number, index, conversation, model)
    records = force(old.records, index, token_id)
    if records is None:
        raise HistoryError(TEXT["history_form"])
    return _start(conversation, Node("assistant", old.parent, records=records, model=model.name), model)


def resume(number: Any, conversation: Conversation, model: Any) -> PendingReply:
    """Go on with the reply `number` where it ended. Raises `HistoryError`."""
    old = _node(number, conversation, "assistant")
    if old.model != model.name or not old.records:
        records = prefix_of(old.text, model)
    else:
        ends = model.config.eos_token_id
        records = old.records[:-1] if old.records[-1].id in ends else old.records
    node = replace(old, words="", records=records, finish="", problem="", facts="", model=model.name)
    return PendingReply(conversation.put(number, _decoded(node, model)), number)


def undo(number: Any, conversation: Conversation, typed: str) -> tuple[Conversation, str]:
    """Take back the user message `number` and what followed; its words return to the box, before what is typed.
    Raises `HistoryError`."""
    question = _node(number, conversation, "user")
    draft = "\n".join(text for text in (question.words, typed) if text)
    return conversation.cut_before(number), draft


def prefix_of(text: str, model: Any) -> tuple[Record, ...]:
    """Text as the first tokens of a reply; markers in it are plain text."""
    return tuple(Record(token_id, "", forced=True) for token_id in model.tokenizer.encode_plain(text, False))


def _reply_to(
    conversation: Conversation, question: int, model: Any, controls: Controls, draft: str | None = None
) -> PendingReply:
    # Half characters, which JSON can carry and UTF-8 cannot, become U+FFFD.
    prefill = controls.prefill.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    records = prefix_of(prefill, model) if prefill else ()
    node = Node("assistant", question, records=records, model=model.name)
    return _start(replace(conversation, system=controls.system, stop=controls.stop), node, model, draft)


def _start(conversation: Conversation, node: Node, model: Any, draft: str | None = None) -> PendingReply:
    number = len(conversation.nodes)
    conversation = conversation.add(_decoded(node, model))
    check_size(conversation)
    return PendingReply(conversation, number, draft)


def _decoded(node: Node, model: Any) -> Node:
    return replace(node, records=with_texts(node.records, model.tokenizer))


def _node(number: Any, conversation: Conversation, role: str) -> Node:
    whole = isinstance(number, int) and not isinstance(number, bool)
    if not whole or not 0 <= number < len(conversation.nodes) or conversation.nodes[number].role != role:
        raise HistoryError(TEXT["history_form"])
    return conversation.nodes[number]


def own_node(number: Any, index: Any, conversation: Conversation, model: Any) -> Node:
    """The reply, if it was written by this model (token ids mean nothing to another) and has that token."""
    node = _node(number, conversation, "assistant")
    if node.model != model.name:
        raise HistoryError(TEXT["other_model"].format(model=node.model))
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(node.records):
        raise HistoryError(TEXT["history_form"])
    return node


def sampling_params(controls: Controls) -> SamplingParams:
    """The page's controls as parameters; an empty seed draws a new one. Raises `ValueError`, naming the control."""
    knobs = SamplingParams.knobs()
    numbers = {}
    for name, value in controls.values.items():
        kind = type(knobs[name].default)
        if not isinstance(value, (int, float)) or (kind is int and value != int(value)):
            raise KnobError(TEXT["bad_knob"].format(label=knobs[name].label, found=value))
        numbers[name] = kind(value)
    digits = controls.seed.strip()
    if digits and not (re.fullmatch(r"[0-9]{1,20}", digits) and int(digits) <= MAX_SEED):
        raise KnobError(TEXT["bad_seed"].format(found=digits[:20], limit=MAX_SEED))
    return SamplingParams(
        **numbers, seed=int(digits) if digits else None, stop=stop_strings(controls.stop), logprobs=ALTERNATIVES
    )


def stop_strings(lines: str) -> tuple[str, ...]:
    r"""One text a line, in which `\n` and `\t` stand for white space and `\\` for a backslash. Raises `KnobError`."""
    texts = tuple(ESCAPE.sub(lambda found: ESCAPED[found[1]], line) for line in lines.splitlines() if line)
    if len(texts) > MAX_STOPS or any(len(text) > MAX_STOP for text in texts):
        raise KnobError(TEXT["bad_stop"].format(limit=MAX_STOPS, length=MAX_STOP))
    return texts


def moved(old: SamplingParams, new: SamplingParams) -> str:
    """Which controls differ, in words: "Temperature 0.7 → 1.2"."""
    return ", ".join(
        f"{knob.label} {getattr(old, name):g} → {getattr(new, name):g}"
        for name, knob in SamplingParams.knobs().items()
        if getattr(old, name) != getattr(new, name)
    )


@dataclass(frozen=True)
class Prompt:
    """What the model reads: `ids`, of which the first `prompt_tokens` are the conversation and the others the begun
    reply. `context_start` is the first message in it, None if all are."""

    ids: list[int]
    prompt_tokens: int
    context_start: int | None = None


def prompt_for(
    conversation: Conversation, number: int, upto: int, model: Any, context: int, max_new_tokens: int
) -> Prompt:
    """The prompt for token `upto` of the reply `number`. The oldest turns are left out until the reply has room in the
    context (a quarter of it, or `max_new_tokens`), as long as there is more than the last question.

    Raises `ChatError` as the chat template does.
    """
    room = context - min(max_new_tokens, context // 4)
    told = model_messages(conversation, conversation.path(until=number))
    if not told:
        raise ChatError(TEXT["nothing_to_answer"])
    begun = [record.id for record in conversation.nodes[number].records[:upto]]
    system = [{"role": "system", "content": conversation.system}] if conversation.system.strip() else []
    left_out = 0
    while True:
        ids = model.chat.prompt_ids([*system, *(message for _, message in told[left_out:])])
        if (len(ids) <= room and len(ids) + len(begun) < context) or left_out + 2 >= len(told):
            break
        left_out += 2  # a question and its answer
    return Prompt([*ids, *begun], len(ids), told[left_out][0] if left_out else None)
