"""The page's messages within the limits of the settings, and in the figures."""

import asyncio
import contextlib
import json
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from conversations import KNOBS
from fake_engine import FakeEngine, fake_model
from prometheus_client.parser import text_string_to_metric_families

from web.api.clients import Clients
from web.chat.codec import write_conversation
from web.chat.conversation import Conversation
from web.models.manager import ModelManager
from web.page.page import Page
from web.settings import Settings

CHAT = write_conversation(replace(Conversation(), request=7))
VALUES = ("", "", "", "", *{**KNOBS, "max_new_tokens": 3}.values())


@pytest.fixture
def open_page():
    """A page with these limits."""
    manager = ModelManager(Settings(), lambda *_, **__: fake_model(), lambda *_: FakeEngine())
    manager.put("random:fake", lambda *_: None)

    def open_(**limits):
        settings = Settings(**limits)
        with gr.Blocks(analytics_enabled=False):
            return Page(manager, settings, Clients(manager, settings))

    return open_


def tab(address="10.0.0.1", username=None, session="tab"):
    return SimpleNamespace(session_hash=session, username=username, client=SimpleNamespace(host=address))


def send(page, request, text="Hello"):
    return page.events.submit(request, text, CHAT, *VALUES)


def ask(page, request, text="Hello"):
    """Why the message was refused, or None."""

    async def collect():
        return [update[0] async for update in send(page, request, text)]

    answer = json.loads(asyncio.run(collect())[0])
    assert answer["request"] == 7
    return answer.get("problem")


def test_a_client_has_so_many_messages_a_minute(open_page):
    page = open_page(requests_per_minute=2)
    assert [ask(page, tab(session=name)) for name in "ab"] == [None, None]
    assert ask(page, tab(session="c")).startswith("More than 2 requests a minute; try again in ")
    assert ask(page, tab("10.0.0.2")) is None
    assert [ask(page, tab(username=name)) for name in ("ada", "bob", "ada")] == [None, None, None]  # not the address


def test_a_client_has_so_many_tokens_a_minute(open_page):
    page = open_page(tokens_per_minute=20)
    assert ask(page, tab(), "Hello, hello, hello, hello") is None
    assert "More than 20 tokens a minute" in ask(page, tab())
    assert ask(page, tab("10.0.0.2")) is None


def test_a_client_has_so_many_replies_at_once_and_who_leaves_gives_one_back(open_page):
    page = open_page(max_streams=1)

    async def two():
        async with contextlib.aclosing(send(page, tab())) as first:
            await anext(first)
            return json.loads((await anext(send(page, tab(session="other"))))[0])["problem"]

    assert "1 requests are answered already" in asyncio.run(two())
    assert ask(page, tab()) is None


def test_replies_of_the_page_are_in_the_figures(open_page):
    page = open_page()
    ask(page, tab())
    text = page.events.clients.metrics.route().routes[0].endpoint().body.decode()
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["glass_llama_replies_total", "length"] == 1
    assert values["glass_llama_time_to_first_token_seconds_count",] == 1
    assert values["glass_llama_time_per_token_seconds_count",] == 1
