"""What the page does when a person acts: from one typed state to the next, without a browser and without Gradio.

A question goes in two steps. A quick one (`ask`, `retry`, `edit`) shows the conversation with the question in it and
names the next `Turn`; `Replies.respond` then streams the answer.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_core.chat import ChatError, start_reply
from llama_core.engine import EngineError
from llama_core.sampling import SamplingParams
from web import status
from web.history import HistoryError, Message, Messages, check_size, read_history, told_to_model
from web.strings import TEXT

MAX_SEED = 2**31 - 1


class KnobError(ValueError):
    """A sampling control holds something that is not its kind of number; one line for the person."""


@dataclass(frozen=True)
class Turn:
    """A question to be answered; `number` makes each one a new value.

    If no word of an answer comes, the conversation goes back to `before` (None: it stays as it is, with the question in
    it) and `draft` goes back into the message box, so that nothing is lost.
    """

    number: int = 0
    before: Messages | None = None
    draft: str | None = None


@dataclass(frozen=True)
class View:
    """What the page shows next. None leaves that part as it is."""

    messages: Messages | None = None
    status: str | None = None
    running: bool | None = None
    draft: str | None = None
    turn: Turn | None = None


def ask(text: str, sent: Any, turn: Turn) -> View:
    """The person sent `text`; `sent` is the conversation as the browser holds it."""
    if not text.strip():
        return View(status=status.problem(TEXT["empty_message"]), running=False)
    try:
        messages = (*read_history(sent), Message("user", text))
        check_size(messages)
    except HistoryError as problem:
        return View(status=status.problem(str(problem)), running=False)
    return View(messages, "", running=True, draft="", turn=Turn(turn.number + 1))


def retry(index: Any, sent: Any, turn: Turn) -> View:
    """Answer the user message at `index` once more; the earlier answer comes back if that fails."""
    try:
        history = read_history(sent)
        question = _question(index, history)
    except HistoryError as problem:
        return View(status=status.problem(str(problem)), running=False)
    return View((*history[:index], question), "", running=True, turn=Turn(turn.number + 1, before=history))


def edit(index: Any, old: Any, new: Any, sent: Any, turn: Turn) -> View:
    """Ask the user message at `index` again in the words `new`; all that was there comes back if that fails."""
    try:
        history = read_history(sent)
        _question(index, history)
        before, after = (read_history([{"role": "user", "content": words}])[0] for words in (old, new))
        original = (*history[:index], before, *history[index + 1:])
        messages = (*history[:index], after)
    except HistoryError as problem:
        return View(status=status.problem(str(problem)), running=False)
    if not after.text.strip():
        return View(original, status.problem(TEXT["empty_message"]), running=False)
    return View(messages, "", running=True, turn=Turn(turn.number + 1, before=original, draft=after.text))


def undo(index: Any, sent: Any, typed: str) -> View:
    """Take back the user message at `index` and what followed; its words return to the box, before what is typed."""
    try:
        history = read_history(sent)
        question = _question(index, history)
    except HistoryError as problem:
        return View(status=status.problem(str(problem)), running=False)
    draft = "\n".join(text for text in (question.text, typed) if text)
    return View(history[:index], status.line(TEXT["ready"]), running=False, draft=draft)


def clear() -> View:
    """Forget the conversation."""
    return View((), status.line(TEXT["ready"]), running=False)


def _question(index: Any, history: Messages) -> Message:
    if not isinstance(index, int) or not 0 <= index < len(history) or history[index].role != "user":
        raise HistoryError(TEXT["history_form"])
    return history[index]


def sampling_params(values: Mapping[str, Any], seed: str) -> SamplingParams:
    """The page's controls as parameters; an empty `seed` draws a new one. Raises ValueError, naming the control."""
    knobs = SamplingParams.knobs()
    numbers = {}
    for name, value in values.items():
        kind = type(knobs[name].default)
        if not isinstance(value, (int, float)) or (kind is int and value != int(value)):
            raise KnobError(TEXT["bad_knob"].format(label=knobs[name].label, found=value))
        numbers[name] = kind(value)
    digits = seed.strip()
    if digits and not (digits.isdecimal() and int(digits[:20]) <= MAX_SEED):
        raise KnobError(TEXT["bad_seed"].format(found=digits[:20], limit=MAX_SEED))
    return SamplingParams(**numbers, seed=int(digits) if digits else None)


@dataclass
class Replies:
    """The replies being written, at most one a browser tab (`session`)."""

    engine: Any
    model: Any
    start: Callable = start_reply
    running: dict[str, Any] = field(default_factory=dict)

    def stop(self, session: str) -> View:
        """End the reply of this tab. Its stream then ends by itself, with what was written so far."""
        reply = self.running.get(session)
        if reply is None:
            return View(running=False)
        reply.cancel()
        return View()

    def abandon(self, session: str) -> None:
        """End the reply of this tab unseen: the conversation that it belongs to is about to change."""
        reply = self.running.pop(session, None)
        if reply is not None:
            reply.cancel()

    async def respond(self, session: str, turn: Turn, sent: Any, system_prompt: str, seed: str,
                      values: Mapping[str, Any]) -> AsyncIterator[View]:
        """Stream the answer to the last message of `sent`. Never raises: problems become notes in the conversation.

        Closing this generator (the tab was closed, another question came) frees the engine's slot.
        """
        history, text, reply = None, "", None
        try:
            history = read_history(sent)
            params = sampling_params(values, seed)
            reply = self.running[session] = self.start(
                self.engine, self.model, told_to_model(history, system_prompt), params)
            yield View(status=status.waiting(self.engine.stats()), running=True)
            async for piece in reply.pieces():
                if self.running.get(session) is not reply:
                    return
                text += piece
                yield View((*history, Message("assistant", text)), status.progress(reply.generation))
            if self.running.get(session) is not reply:
                return
            outcome = status.finished(reply, params.max_new_tokens, self.engine.max_seq_len)
            yield _answered(history, text, outcome) if text.strip() else _silent(history, turn, reply, outcome)
        except (ChatError, EngineError, HistoryError, ValueError) as problem:
            yield _failed(history, turn, text, str(problem))
        except Exception as problem:
            logging.getLogger(__name__).exception("a reply failed")
            yield _failed(history, turn, text, TEXT["unexpected"].format(kind=type(problem).__name__))
        finally:
            if reply is not None:
                reply.cancel()
                if self.running.get(session) is reply:
                    del self.running[session]


def _answered(history: Messages, text: str, outcome: str) -> View:
    return View((*history, Message("assistant", text)), outcome, running=False)


def _silent(history: Messages, turn: Turn, reply: Any, outcome: str) -> View:
    if reply.finish_reason == "cancelled":
        return View(turn.before, outcome, running=False, draft=turn.draft)
    return View((*history, Message("assistant", TEXT["silent"], note=True)), outcome, running=False)


def _failed(history: Messages | None, turn: Turn, text: str, problem: str) -> View:
    outcome = status.line(TEXT["error_reason"])
    if history is None:
        return View(status=status.problem(problem), running=False)
    if text:
        note = Message("assistant", TEXT["broken_off"].format(problem=problem), note=True)
        return View((*history, Message("assistant", text), note), outcome, running=False)
    kept = list(history if turn.before is None else turn.before)
    while kept and kept[-1].note:  # the note of an earlier try
        kept.pop()
    note = Message("assistant", TEXT["problem"].format(problem=problem), note=True)
    return View((*kept, note), outcome, running=False, draft=turn.draft)
