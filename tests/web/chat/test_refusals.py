"""Requests that are refused before a word is written, and those of several conversations at once."""

import asyncio
import dataclasses
import json
from unittest.mock import Mock

from conversations import KNOBS, SHORT, begin

from llama_core.engine import EngineError
from web.chat.actions import Controls
from web.chat.conversation import Conversation
from web.chat.replies import seat_of


def views(replies, start, controls=SHORT):
    async def collect():
        return [view async for view in replies.respond("tab", start, controls, replies.served)]

    return asyncio.run(collect())


def ending(view):
    return json.loads(view.stream.splitlines()[-1])["end"]


def test_what_cannot_begin_is_refused_and_the_page_keeps_the_question(replies, engine):
    engine.max_seq_len = 4
    asked = dataclasses.replace(Conversation("abc"), request=7)
    [refused] = views(replies, begin(replies, "too long a question", asked))
    assert refused.stream is None and json.loads(refused.chat)["request"] == 7
    assert "The prompt has 19 tokens" in json.loads(refused.chat)["problem"]
    [wrong] = views(replies, begin(replies), Controls({**KNOBS, "temperature": None}))
    assert json.loads(wrong.chat)["field"] == "Temperature"
    assert "Temperature is None" in json.loads(wrong.chat)["problem"]
    started = begin(replies)
    replies.served.model.chat = None
    [crashed] = views(replies, started)
    assert "unexpected error" in json.loads(crashed.chat)["problem"] and "AttributeError" in crashed.chat
    assert replies.running == replies.starting == {}


def test_replies_of_two_conversations_in_one_tab_are_written_side_by_side(replies, engine):
    async def both():
        pending = [begin(replies, text, Conversation(text)) for text in ("one", "two")]
        seats = [seat_of("tab", start.conversation.id) for start in pending]
        streams = [
            replies.respond(seat, start, SHORT, replies.served) for seat, start in zip(seats, pending, strict=True)
        ]
        first = [await anext(stream) for stream in streams]
        assert replies.of_tab("tab") == ["tab/one/", "tab/two/"] and replies.of_tab("ta") == []
        replies.abandon(seats[0])
        return first, [[update async for update in stream] for stream in streams]

    _, (one, two) = asyncio.run(both())
    assert one == [] and ending(two[-1])["finish"] == "length"


def test_a_problem_does_not_tell_where_things_lie_on_the_server(replies, engine):
    engine.submit = Mock(side_effect=EngineError("the engine failed (OSError: /srv/cache/xla/x.so is gone)"))
    assert json.loads(views(replies, begin(replies))[-1].chat)["problem"] == "The engine failed (OSError: x.so is gone)"
