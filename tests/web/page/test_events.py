"""The handlers of the page's events, called as Gradio calls them."""

import asyncio
import json
import threading
from collections import OrderedDict
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from conversations import CONTROLS, KNOBS, talk
from fake_engine import FakeEngine, fake_model

from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.chat_template import Chat
from web.api.clients import Clients
from web.chat import codec
from web.chat.codec import write_conversation
from web.chat.conversation import Conversation, Record
from web.models import catalog
from web.models.manager import ModelManager, Served
from web.page import inspected as inspected_module
from web.page import plots
from web.page.inspected import InspectedTokens, Pointer
from web.page.page import Page
from web.settings import Settings
from web.strings import TEXT

REQUEST = SimpleNamespace(session_hash="tab", username=None, client=SimpleNamespace(host="10.0.0.1"))
VALUES = ("", "", "", "", *{**KNOBS, "max_new_tokens": 3}.values())
NAMES = ("system", "prefill", "seed", "stop", *KNOBS)
OTHER = Served(FakeEngine(max_seq_len=77), fake_model("other"))


class SwappingManager(ModelManager):
    """Another model takes over as soon as `served` was read."""

    reads = 0

    @property
    def served(self):
        self.reads += 1
        return self.first if self.reads == 1 else OTHER


@pytest.fixture
def page():
    manager = ModelManager(Settings(), lambda *_, **__: fake_model(), lambda *_: FakeEngine())
    manager.put("random:fake", lambda *_: None)
    with gr.Blocks(analytics_enabled=False) as blocks:
        page = Page(manager, Settings(), Clients(manager, Settings()))
        page.connect(blocks)
    page.blocks = blocks
    return page


def act(page, chat=None, values=VALUES, **action):
    """Everything that the page is sent: one dict per update, by the name of the output."""
    names = ("chat", "stream", "right stream", "status", "plot", "lens")
    chat = chat if isinstance(chat, str) else write_conversation(talk() if chat is None else chat)

    async def collect():
        event = SimpleNamespace(_data=action)
        return [dict(zip(names, row, strict=True)) async for row in page.events.act(REQUEST, event, "", chat, *values)]

    return asyncio.run(collect())


@pytest.mark.parametrize(
    "action",
    [
        {"do": "retry", "node": 1},
        {"do": "branch", "node": 1, "index": 1, "id": 2},
        {"do": "resume", "node": 1},
        {"do": "choose", "node": 1, "index": 1},
    ],
)
def test_an_event_has_one_model_from_its_beginning_to_its_end(page, action):
    first = page.manager.served
    page.events.manager = SwappingManager(Settings())
    page.events.manager.first = first
    updates = act(page, **action)
    assert not any('class="problem"' in str(update["status"]) for update in updates)
    assert not any("77 tokens of context" in str(update["status"]) for update in updates)
    assert OTHER.engine.generations == [] and page.events.manager.reads == 1


@pytest.mark.parametrize(
    "action",
    [
        {"do": "ask", "text": "three"},
        {"do": "edit", "node": 0, "text": "uno"},
        {"do": "retry", "node": 1},
        {"do": "branch", "node": 1, "index": 1, "id": 2},
        {"do": "resume", "node": 1},
        {"do": "choose", "node": 1, "index": 1},
        {"do": "ask", "text": "boom" * 2000},  # does not fit: a reply that failed
    ],
)
def test_nothing_that_takes_long_for_a_long_chat_is_done_on_the_event_loop(page, monkeypatch, action):
    threads, chat = {}, write_conversation(talk())

    def watch(owner, name):
        function = getattr(owner, name)

        def watched(*arguments, **more):
            threads[name] = threads.get(name, set()) | {threading.get_ident()}
            return function(*arguments, **more)

        monkeypatch.setattr(owner, name, watched)

    for owner, name in (
        (codec, "_parse"),
        (codec, "_node_to_json"),
        (Conversation, "path"),
        (Chat, "prompt_ids"),
        (plots, "distribution_list"),
        (inspected_module, "next_token_distribution"),
    ):
        watch(owner, name)
    act(page, chat, **action)
    assert "_parse" in threads
    assert {name for name, where in threads.items() if threading.get_ident() in where} == set()


def test_words_of_others_come_while_a_slow_tokenizer_counts_a_long_chat(page):
    """The event loop answers meanwhile; the tokenizer waits for that, however slow the machine is."""
    loop_was_free, plain = threading.Event(), page.manager.served.model.tokenizer

    def slow(text, is_start):
        assert loop_was_free.wait(30)
        return plain.encode_plain(text, is_start)

    tokenizer = replace(plain, encode_plain=slow)
    model = fake_model()
    model.tokenizer, model.chat = tokenizer, Chat(tokenizer)
    page.manager._served = replace(page.manager.served, model=model)

    async def both():
        event, chat = SimpleNamespace(_data={"do": "retry", "node": 1}), write_conversation(talk())
        updates = page.events.act(REQUEST, event, "", chat, *VALUES)
        first = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        loop_was_free.set()
        return [await first, *[update async for update in updates]]

    assert len(asyncio.run(both())) > 1


@pytest.mark.parametrize(
    "action",
    [{}, {"do": "format"}, {"do": "retry", "node": "1"}, {"do": "branch", "node": 1, "index": True}, {"do": ["ask"]}],
)
def test_an_action_that_no_page_of_ours_would_post_is_refused_in_words(page, action):
    [update] = act(page, **action)
    assert "not readable" in update["status"]


def test_a_posted_token_that_is_not_in_the_vocabulary_is_named(page):
    """Once Gradio's own handler met it, and the page was told nothing."""
    unknown = talk().put(1, replace(talk().nodes[1], records=(Record(2**30, "x"), *talk().nodes[1].records)))
    for action in ({"do": "branch", "node": 1, "index": 1, "id": 2}, {"do": "resume", "node": 1}):
        [update] = act(page, unknown, **action)
        assert f"{2**30}" in json.loads(update["chat"])["problem"]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_posted_number_without_end_is_named(page, value):
    values = [*VALUES[:-1], value]
    [update] = act(page, values=values, do="retry", node=1)
    assert f"is {value}; expected a number" in json.loads(update["chat"])["problem"]
    assert page.events.inspected.attention("tab", value, value) == ""


def test_a_folder_that_came_into_weights_is_in_the_sheet_when_it_is_opened_again(page, monkeypatch):
    monkeypatch.setattr(catalog, "local_names", lambda: ["weights:new"])
    assert "weights:new" in [name for listed in page.model._all() for _, name in listed.choices]
    opened = [block for block in page.blocks.fns.values() if (page.model.chip._id, "click") in block.targets]
    assert page.model._all in [block.fn for block in opened]


def test_sliders_follow_another_model_unless_the_person_moved_them(page):
    knobs = list(SamplingParams.knobs())
    before = dict(zip(knobs, VALUES[4:], strict=True))
    other = fake_model("other")
    other.defaults = SamplingParams(temperature=0.2, top_p=0.9)
    page.manager._served = Served(FakeEngine(max_seq_len=77), other)
    values = {**before, "top_p": 0.5}  # moved
    *_, defaults = page._swapped(before, *values.values())
    sliders = dict(zip(knobs, page._swapped(before, *values.values())[-len(knobs) - 1 : -1], strict=True))
    assert defaults["temperature"] == sliders["temperature"].value == 0.2
    assert sliders["top_p"] == gr.skip()  # not even to its own value: the person may be moving it
    assert (sliders["max_new_tokens"].value, sliders["max_new_tokens"].maximum) == (77, 77)


def test_a_tab_that_closes_while_it_points_disturbs_nobody():
    """`point` runs on the event loop or in a worker thread, `forget` in another one."""
    inspected, served = InspectedTokens(), Served(FakeEngine(), fake_model())

    class Racing(OrderedDict):
        def __setitem__(self, key, value):
            super().__setitem__(key, value)
            if not inspected._lock.locked():
                self.pop(key)  # what a thread without the lock may do here

    inspected._tabs = Racing()
    inspected.point(Pointer("tab", 1, 1), talk(), CONTROLS, served)
    assert list(inspected._tabs) == ["tab"]


def test_replies_by_the_guide_from_before_models_had_ids_are_its_own(page):
    old = talk().put(1, replace(talk().nodes[1], model="guide", model_id=""))
    [update] = act(page, old, do="branch", node=1, index=1, id=2)
    assert "written by guide; load that model" in update["chat"]
    page.manager._served = replace(page.manager.served, is_guide=True)
    assert len(act(page, old, do="branch", node=1, index=1, id=2)) > 1


def test_that_the_model_takes_no_system_prompt_is_said_beside_it(page):
    assert page.panel.system.info == TEXT["system_hint"]
    other = fake_model("no system")
    other.chat = Chat(other.tokenizer, "{{ raise_exception('no system') if messages[0].role == 'system' }}x")
    page.manager._served = replace(page.manager.served, model=other)
    box = page._swapped({}, *VALUES[4:])[1]
    assert "your first question will begin with these words" in box.info
    assert "value" not in box.constructor_args or box.constructor_args["value"] is None


def test_the_seed_of_a_reply_is_told_and_draws_the_next_one_whatever_stands_in_its_box(page):
    seeded = [*VALUES[:2], "11", *VALUES[3:]]
    for asked, drawn in (("", "11"), (str(2**32 - 1), str(2**32 - 1))):
        *_, last = act(page, values=seeded, do="retry", node=1, seed=asked)
        assert json.loads(last["stream"].splitlines()[-1])["end"]["seed"] == drawn
        assert page.manager.served.engine.generations[-1].params.seed == int(drawn)
    [update] = act(page, do="retry", node=1, seed=str(2**32))
    assert "expected a whole number from 0 to 4294967295" in json.loads(update["chat"])["problem"]


def test_sampling_is_reset_to_what_the_model_begins_with(page):
    before = dict(zip(page.panel.knobs, VALUES[4:], strict=True))
    assert page.panel._reset({**before, "temperature": 0.2}) == [None, *{**before, "temperature": 0.2}.values()]


def test_two_replies_side_by_side_have_settings_of_their_own_and_end_together(page):
    page.manager.served.engine.pace = 1000
    values = {**dict(zip(NAMES, VALUES, strict=True)), "seed": "11", "max_new_tokens": 2000}  # longer than the test

    def begin(**action):
        event, chat = SimpleNamespace(_data={"do": "retry", "node": 1, **action}), write_conversation(talk())
        return page.events.act(REQUEST, event, "", chat, *values.values())

    async def both(end):
        sides = [begin(side="left", seed="5", temperature=0.2), begin(side="right", temperature=1)]
        begun = [await anext(side) for side in sides]
        requests = page.manager.served.engine.generations[-2:]
        assert [request.cancelled.is_set() for request in requests] == [False, False]
        await end()
        ended = [request.cancelled.is_set() for request in requests]
        for side in sides:
            await side.aclose()
        return begun, requests, ended

    async def stop():
        page.events.stop(REQUEST, "abc")

    async def ask():
        other = begin()
        await anext(other)
        await other.aclose()

    for end in (stop, ask):
        (left, right), requests, ended = asyncio.run(both(end))
        assert [(request.params.temperature, request.params.seed) for request in requests] == [(0.2, 5), (1.0, 0)]
        assert left[2] == right[1] == gr.skip() and '"run"' in left[1] and '"run"' in right[2]
        assert ended == [True, True]
