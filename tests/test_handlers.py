"""What the page does, without a browser: conversations in, views out, nothing lost, never an exception."""

import asyncio
from types import SimpleNamespace

import pytest
from fakes import FakeReply

from llama_core.engine import EngineError
from llama_core.sampling import SamplingParams
from web import handlers
from web.handlers import Replies, Turn
from web.history import MAX_CHARACTERS, MAX_MESSAGES, HistoryError, Message, read_history, show, told_to_model

U, A = (lambda text: Message("user", text)), (lambda text: Message("assistant", text))
NOTE = Message("assistant", "**No reply:** it failed", note=True)
TALK = (U("one"), A("two"), U("three"), A("four"))
KNOBS = {name: knob.default for name, knob in SamplingParams.knobs().items()}
STATS = SimpleNamespace(slots=2, busy=0, queued=0)


def sent(messages):
    """The messages as a browser sends them back."""
    return [{"role": m["role"], "content": [{"type": "text", "text": m["content"]}], "metadata": m.get("metadata"),
             "options": None} for m in show(messages)]


def replies(start):
    return Replies(SimpleNamespace(stats=lambda: STATS, max_seq_len=64), "model", start=start)


def views(desk, messages, turn=None, seed="", knobs=KNOBS, session="tab"):
    async def collect():
        return [view async for view in desk.respond(session, turn or Turn(1), sent(messages), "", seed, knobs)]

    return asyncio.run(collect())


def test_what_the_browser_sends_back_is_what_was_shown():
    assert read_history(sent((*TALK, NOTE))) == (*TALK, NOTE)


@pytest.mark.parametrize("bad", [
    None, "text", [1], [{"role": "system", "content": "x"}], [{"role": "user"}], [{"role": "user", "content": [{}]}],
    [{"role": "user", "content": "x" * (MAX_CHARACTERS + 1)}], [{"role": "user", "content": ""}] * (MAX_MESSAGES + 1),
])
def test_what_no_page_of_ours_would_send_is_refused(bad):
    with pytest.raises(HistoryError):
        read_history(bad)
    assert "problem" in handlers.ask("hi", bad, Turn()).status


def test_the_model_is_told_alternating_messages_without_notes():
    assert told_to_model((*TALK[:2], U("failed"), NOTE, U("again")), "Be brief") == [
        {"role": "system", "content": "Be brief"}, {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"}, {"role": "user", "content": "again"},
    ]
    assert told_to_model((U("a"), U("b"))) == [{"role": "user", "content": "a\n\nb"}]


def test_asking_shows_the_question_and_begins_a_turn():
    view = handlers.ask("five", sent(TALK), Turn(3))
    assert view.messages == (*TALK, U("five")) and view.turn == Turn(4) and view.draft == "" and view.running
    empty = handlers.ask("  \n", sent(TALK), Turn(3))
    assert empty.messages is None and empty.turn is None and "write something" in empty.status


def test_retrying_and_editing_go_back_to_the_question():
    again = handlers.retry(2, sent(TALK), Turn(3))
    assert again.messages == TALK[:3] and again.turn == Turn(4, before=TALK)
    changed = handlers.edit(0, "one", "uno", sent((U("uno"), *TALK[1:])), Turn(3))
    assert changed.messages == (U("uno"),) and changed.turn.before == TALK
    blank = handlers.edit(0, "one", " ", sent((U(" "), *TALK[1:])), Turn(3))
    assert blank.messages == TALK and blank.turn is None


def test_undoing_gives_the_words_back():
    view = handlers.undo(2, sent(TALK), "typed")
    assert view.messages == TALK[:2] and view.draft == "three\ntyped"


@pytest.mark.parametrize("index", [-1, 1, 99, None, "0", [0]])
def test_only_questions_can_be_retried_edited_or_undone(index):
    for view in (handlers.retry(index, sent(TALK), Turn()), handlers.undo(index, sent(TALK), ""),
                 handlers.edit(index, "a", "b", sent(TALK), Turn())):
        assert view.messages is None and view.turn is None and "problem" in view.status


def test_a_reply_grows_and_ends_with_speed_and_reason():
    seen = views(replies(lambda *_: FakeReply(["Hel", "lo"])), TALK[:1])
    texts = [view.messages[-1].text for view in seen if view.messages]
    assert texts == ["Hel", "Hello", "Hello"] and seen[0].running and seen[-1].running is False
    assert "the model finished" in seen[-1].status and "tokens/s" in seen[-1].status


def test_the_engine_is_given_what_the_page_says():
    given = {}

    def start(engine, model, messages, params):
        given.update(messages=messages, params=params)
        return FakeReply(["x"])

    views(replies(start), TALK[:3], seed=" 42 ", knobs={**KNOBS, "temperature": 0, "top_k": 5.0})
    assert [row["content"] for row in given["messages"]] == ["one", "two", "three"]
    assert given["params"] == SamplingParams(temperature=0.0, top_k=5, seed=42)


@pytest.mark.parametrize(("seed", "knobs", "words"), [
    ("x", {}, "seed is x"), ("-1", {}, "seed is -1"), ("99999999999", {}, "seed is 99999999999"),
    ("", {"top_k": 1.5}, "Top-k is 1.5"), ("", {"temperature": None}, "Temperature is None"),
    ("", {"temperature": 1e9}, "temperature is 1000000000.0"), ("", {"top_p": "0"}, "Top-p is 0"),
])
def test_impossible_controls_are_a_message_in_the_conversation(seed, knobs, words):
    seen = views(replies(None), TALK[:1], seed=seed, knobs={**KNOBS, **knobs})
    assert seen[-1].messages[:-1] == TALK[:1] and seen[-1].messages[-1].note
    assert words in seen[-1].messages[-1].text and seen[-1].running is False


def refuse(*_):
    raise EngineError("the prompt is too long")


def crash(*_):
    raise ZeroDivisionError


def test_failures_are_messages_and_nothing_is_lost():
    before = Turn(2, before=TALK, draft="new words")
    refused = views(replies(refuse), (U("new words"),), before)[-1]
    assert refused.messages[:4] == TALK and "too long" in refused.messages[4].text and refused.draft == "new words"
    crashed = views(replies(crash), TALK[:1])[-1]
    assert "unexpected error" in crashed.messages[-1].text and "ZeroDivisionError" in crashed.messages[-1].text
    broken = views(replies(lambda *_: FakeReply(["some ", "words"], error=EngineError("gone"))), TALK[:1])[-1]
    assert broken.messages[1] == A("some words") and "gone" in broken.messages[2].text and broken.messages[2].note


def test_a_wordless_reply_is_said_to_be_one():
    silent = views(replies(lambda *_: FakeReply([])), TALK[:1])[-1]
    assert silent.messages[-1].note and "without a word" in silent.messages[-1].text


def test_stop_keeps_what_was_written_and_leaving_frees_the_slot():
    reply = FakeReply(["some ", "words ", "more"])
    desk = replies(lambda *_: reply)

    async def talk():
        seen = []
        async for view in desk.respond("tab", Turn(1), sent(TALK[:1]), "", "", KNOBS):
            seen.append(view)
            if len(seen) == 2:
                desk.stop("tab")
        return seen

    seen = asyncio.run(talk())
    assert seen[-1].messages[-1] == A("some ") and "stopped by you" in seen[-1].status
    assert desk.running == {} and reply.cancelled
    assert desk.stop("tab").running is False  # nothing runs: only the button comes back

    async def leave():
        stream = desk.respond("tab", Turn(1), sent(TALK[:1]), "", "", KNOBS)
        await anext(stream)
        await stream.aclose()

    reply.cancelled = False
    asyncio.run(leave())
    assert reply.cancelled and desk.running == {}


def test_an_abandoned_reply_writes_nothing_more():
    desk = replies(lambda *_: FakeReply(["some ", "words"]))

    async def talk():
        seen = []
        async for view in desk.respond("tab", Turn(1), sent(TALK[:1]), "", "", KNOBS):
            seen.append(view)
            if len(seen) == 2:
                desk.abandon("tab")
        return seen

    assert len(asyncio.run(talk())) == 2
