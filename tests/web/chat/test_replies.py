"""Replies while they are written: views that only grow, moved controls, and whatever may go wrong."""

import asyncio
import dataclasses
import gc
import json
from types import SimpleNamespace

import pytest
from conversations import CONTROLS, KNOBS, SHORT, begin, talk
from fake_engine import next_id

from llama_core.engine.request import Token
from llama_core.engine.text import TextToken
from llama_core.sampling.params import SamplingParams
from web.chat import actions
from web.chat import replies as module
from web.chat.actions import Controls
from web.chat.codec import read_record
from web.chat.conversation import Conversation
from web.chat.replies import Writer
from web.chat.stream import Labels, Stream


def views(replies, start, controls=SHORT, after=None):
    """All views; `after(view)` is called with each one."""

    async def collect():
        seen = []
        async for view in replies.respond("tab", start, controls, replies.served):
            seen.append(view)
            if after:
                after(view)
        return seen

    return asyncio.run(collect())


def lines(view):
    return [json.loads(line) for line in view.stream.splitlines()]


def ending(view):
    return lines(view)[-1]["end"]


def test_a_reply_grows_token_by_token_and_ends_with_its_reason(replies, engine):
    seen = views(replies, begin(replies))
    streams = [view.stream for view in seen if view.stream]
    assert all(later.startswith(earlier) for earlier, later in zip(streams, streams[1:], strict=False))
    head, *tokens, end = lines(seen[-1])
    assert (head["chat"], head["node"]) == ("abc", 1)
    assert [read_record(token).id for token in tokens] == engine.generations[0].token_ids
    assert end["end"]["finish"] == "length" and "Length limit (5)" in end["end"]["facts"]
    assert [node["role"] for node in json.loads(seen[0].chat)["nodes"]] == ["user", "assistant"]
    assert replies.running == {}


def test_alternatives_come_with_their_shares_before_and_after(replies):
    record = read_record(lines(views(replies, begin(replies))[-1])[1])
    assert record.share == 0.05 and record.final_share == 0.055
    assert record.alternatives[0].id == record.id and record.alternatives[2].final_share == 0.0


def test_a_branch_goes_on_as_the_engine_does_for_that_prefix(replies, engine):
    conversation = talk()
    views(replies, actions.branch(1, 1, 2, conversation, replies.served.model))
    generation = engine.generations[0]
    prompt = replies.served.model.chat.prompt_ids([{"role": "user", "content": "one"}])
    assert generation.prompt_ids == [*prompt, 1, 2]
    assert generation.token_ids[0] == next_id([*prompt, 1, 2])


def test_what_was_dropped_is_in_the_conversation(replies, engine):
    engine.max_seq_len = 40
    long = talk().add(actions.Node("assistant", 2, "words " * 5, model="fake"))
    seen = views(replies, begin(replies, "three", long))
    assert json.loads(seen[0].chat)["told_from"] is not None


def test_moved_controls_reach_the_running_reply_and_are_marked(replies, engine):
    engine.pace = 200

    def turn(view):
        if engine.generations and len(engine.generations[0].tokens) > 2:
            replies.update("tab", Controls({**SHORT.values, "max_new_tokens": 2000, "temperature": 1.5}))
        if '"mark"' in (view.stream or ""):
            replies.stop("tab")

    seen = views(replies, begin(replies), Controls({**KNOBS, "max_new_tokens": 2000}), after=turn)
    generation = engine.generations[0]
    [(place, params)] = generation.changes  # the same values again are no move
    assert params.temperature == 1.5 and place > 2
    marks = [(row - 1, line["mark"]) for row, line in enumerate(lines(seen[-1])) if "mark" in line]
    assert marks == [(place, "Temperature 0.7 → 1.5")]
    replies.update("tab", CONTROLS)  # nothing runs: nothing happens


def test_a_mark_stands_where_the_engine_took_the_new_controls(replies):
    old = SamplingParams(max_new_tokens=4)
    generation = SimpleNamespace(params=old, changes=[(2, dataclasses.replace(old, top_k=5))])
    stream = Stream(Conversation("abc"), 0)
    tokens = [TextToken(Token(number, -1.0, -1.0), "") for number in (1, 2, 3, 4)]
    Writer(generation, stream, Labels(replies.served.model.tokenizer)).write(tokens)
    rows = [json.loads(line) for line in stream.text.splitlines()[1:]]
    assert [row.get("mark", "") if isinstance(row, dict) else row[0] for row in rows] == [1, 2, "Top-k 0 → 5", 3, 4]


def test_half_typed_controls_are_not_sent(replies, engine):
    engine.pace = 200
    views(
        replies,
        begin(replies),
        after=lambda view: replies.update("tab", Controls({**SHORT.values, "temperature": None})),
    )
    assert engine.generations[0].changes == []


def test_the_place_in_line_is_shown_while_waiting(replies, engine):
    engine.hold = 3

    def let_in(view):
        if "place 3 in line" in (view.status or ""):
            engine.hold = None

    seen = views(replies, begin(replies), after=let_in)
    assert any("place 3 in line" in (view.status or "") for view in seen) and ending(seen[-1])["finish"] == "length"


def test_how_far_the_engine_is_is_shown_while_it_gets_ready(replies, engine):
    engine.ready, engine.compiled = False, (3, 8)
    seen = views(replies, begin(replies), after=lambda view: setattr(engine, "ready", True))
    assert "3 of 8 programs" in seen[0].status and ending(seen[-1])["finish"] == "length"
    assert "first token" not in ending(seen[-1])["facts"]  # it would count the compilation


def test_stop_works_while_the_engine_gets_ready(replies, engine):
    engine.ready = False
    seen = views(replies, begin(replies), after=lambda view: replies.stop("tab"))
    assert "Warming up" in seen[0].status and ending(seen[-1])["drop"] is True


def test_speed_prompt_and_context_are_in_sight(replies, engine):
    engine.pace = 100
    statuses = [view.status for view in views(replies, begin(replies)) if view.status]
    running = next(text for text in statuses if "tokens/s" in text)
    for words in ("first token after", "3 prompt tokens", "of 4096 tokens of context"):
        assert words in running


def test_stop_keeps_what_was_written(replies, engine):
    engine.pace = 200

    def stop(view):
        if len(engine.generations[0].tokens) > 2:
            replies.stop("tab")

    seen = views(replies, begin(replies), Controls({**KNOBS, "max_new_tokens": 2000}), after=stop)
    assert ending(seen[-1])["finish"] == "cancelled" and 3 < len(lines(seen[-1])) < 2000
    assert "Stopped" in seen[-1].status
    replies.stop("tab")  # nothing runs: nothing happens


def test_stop_before_the_first_word_leaves_no_reply(replies, engine):
    engine.hold = 1
    seen = views(replies, begin(replies), after=lambda view: replies.stop("tab"))
    assert ending(seen[-1])["drop"] is True


@pytest.mark.parametrize(
    ("text", "stop", "shown"),
    [
        ("one two three", "o th", list("one tw")),
        ("abab", "b\nx\nba", ["a"]),
        ("abab", "c", list("abab")),
        ("ab ac", "acd", list("ab ac")),
        ("aéb", "éb", ["a", ""]),
        ("aéb", "b", ["a", "", "é"]),
    ],
)
def test_a_reply_ends_before_a_text_to_stop_at(replies, engine, text, stop, shown):
    engine.hostile = text
    last = views(replies, begin(replies, "script"), Controls({**KNOBS, "temperature": 1.0}, stop=stop))[-1]
    assert [read_record(line).text for line in lines(last)[1:-1]] == shown
    is_cut = "".join(shown) != text
    assert ("Stop sequence reached" in ending(last)["facts"]) == is_cut and replies.running == {}
    assert ending(last)["finish"] == ("cut" if is_cut else "stop")


def test_what_was_held_back_for_a_text_to_stop_at_is_shown_when_the_reply_breaks_off(replies, engine):
    first = engine_words(replies, "boom")
    broken = views(replies, begin(replies, "boom"), Controls(KNOBS, stop="".join(first) + "!"))[-1]
    assert ending(broken)["problem"] == "out of words"
    assert [read_record(line).text for line in lines(broken)[1:-1]] == first


def engine_words(replies, text):
    """What the fake writes before it breaks off."""
    return [read_record(line).text for line in lines(views(replies, begin(replies, text), CONTROLS)[-1])[1:-1]]


def test_a_token_is_cut_where_a_text_to_stop_at_begins(replies, engine):
    assert engine_words(replies, "cats")[:3] == [" dog", " it", " mat"]
    last = views(replies, begin(replies, "cats"), Controls(SHORT.values, stop="t mat"))[-1]
    assert [read_record(line).text for line in lines(last)[1:-1]] == [" dog", " i"]
    assert engine.generations[-1].cancelled.is_set()


def test_leaving_frees_the_slot(replies, engine):
    engine.pace = 100

    async def leave():
        stream = replies.respond("tab", begin(replies), CONTROLS, replies.served)
        await anext(stream)
        await stream.aclose()

    asyncio.run(leave())
    assert engine.generations[0].cancelled.is_set() and replies.running == {}


def test_an_abandoned_reply_writes_nothing_more(replies, engine):
    engine.pace = 200
    seen = views(replies, begin(replies), CONTROLS, after=lambda view: replies.abandon("tab"))
    assert len(seen) == 1 and engine.generations[0].cancelled.is_set()


def test_failures_stand_in_the_conversation(replies, engine):
    broken = views(replies, begin(replies, "boom"))[-1]
    assert ending(broken) == {"finish": "error", "problem": "out of words"} and len(lines(broken)) == 5


def test_text_is_readable_only_when_its_bytes_are_whole(replies, engine):
    engine.hostile = "aé"
    texts = [read_record(line).text for line in lines(views(replies, begin(replies, "script"))[-1])[1:-1]]
    assert texts == ["a", "", "é"]


def test_a_tab_that_closes_while_nothing_comes_leaves_no_error_behind(replies, engine, monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    engine.hold, problems = 3, []

    async def leave():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context["message"]))
        stream = replies.respond("tab", begin(replies), CONTROLS, replies.served)
        assert [await anext(stream), await anext(stream)]  # the second is the place in line
        await stream.aclose()
        del stream
        gc.collect()
        await asyncio.sleep(0.05)

    asyncio.run(leave())
    assert problems == [] and engine.generations[0].cancelled.is_set()


def test_a_reply_that_ends_while_its_tab_is_closed_is_forgotten_once(replies):
    """`forget` comes from the event loop, `abandon` from a worker thread."""
    request = SimpleNamespace(cancel=lambda: None)

    class Racing(dict):
        def get(self, key, default=None):
            found = super().get(key, default)
            if not replies._lock.locked():
                self.pop(key, None)  # what a thread without the lock may do here
            return found

    replies.running = Racing(tab=request)
    replies._forget("tab", request)
    assert replies.running == {}
