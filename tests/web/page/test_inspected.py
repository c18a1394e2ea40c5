"""Looking inside a word: one look at a time in the whole process, and what is kept and what waits is bounded."""

import asyncio
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conversations import CONTROLS, talk
from fake_engine import CONFIG, FakeEngine, fake_model

from llama_core.model.lens import Inside, InspectionError
from web.models.manager import Served
from web.page import inspected
from web.page.inside_panel import InsidePanel
from web.page.inspected import MAX_LOOKS, InspectedTokens, Pointer

SERVED = Served(FakeEngine(), fake_model())


@pytest.fixture
def looks(monkeypatch):
    """Instead of looks inside: how many are running at the same time, at most, and a gate that holds them."""
    seen = SimpleNamespace(now=0, most=0, done=0, begun=threading.Event(), gate=threading.Event())

    def inspect(params, config, ids, drawable):
        seen.now += 1
        seen.most = max(seen.most, seen.now)
        seen.begun.set()
        seen.gate.wait(30)
        seen.now, seen.done = seen.now - 1, seen.done + 1
        layers = config.num_hidden_layers
        attention = np.full((layers, config.num_attention_heads, len(ids)), 1 / len(ids), np.float32)
        return Inside(np.ones((layers, 5), int), np.full((layers, 5), 0.2), attention)

    monkeypatch.setattr(inspected, "inspect", inspect)
    return seen


def look(tokens, session):
    tokens.point(Pointer(session, 1, 1), talk(), CONTROLS, SERVED)
    return tokens.look_inside(session, SERVED)


def test_one_look_at_a_time_also_when_a_tab_is_closed_in_the_middle(looks):
    async def many():
        tokens = InspectedTokens()
        first, *others = [asyncio.create_task(look(tokens, str(i))) for i in range(6)]
        await asyncio.to_thread(looks.begun.wait, 30)
        first.cancel()
        await asyncio.sleep(0)
        looks.gate.set()
        return await asyncio.gather(*others)

    assert all("lens" in drawn for drawn in asyncio.run(many()))
    assert looks.most == 1 and looks.done == 6


async def told(tokens):
    """What stands below the alternatives of a word that was clicked."""
    updates = InsidePanel.look(SimpleNamespace(inspected=tokens), Pointer("x", 1, 1), talk(), CONTROLS, SERVED)
    return [update.lens async for update in updates if update.lens is not None]


def test_who_waits_for_others_is_told_so_and_too_many_are_refused(looks):
    async def crowd():
        tokens = InspectedTokens()
        waiting = [asyncio.create_task(look(tokens, str(i))) for i in range(MAX_LOOKS + 1)]
        await asyncio.sleep(0)
        words = await told(tokens)
        with pytest.raises(InspectionError, match="try again in a moment"):
            await look(tokens, "y")
        looks.gate.set()
        await asyncio.gather(*waiting)
        return [*words, *await told(tokens)]

    crowded, refused, alone, drawn = asyncio.run(crowd())
    assert f"{MAX_LOOKS + 1} before you" in crowded and "Many people" in refused
    assert "before you" not in alone and "lens" in drawn


def test_what_tabs_point_at_has_a_bound_in_bytes_and_the_newest_stays(monkeypatch):
    tokens = InspectedTokens()
    of_one = CONFIG.vocab_size * 4
    monkeypatch.setattr(inspected, "MAX_BYTES", 4 * of_one)
    for tab in map(str, range(10)):
        asyncio.run(tokens.plot(Pointer(tab, 1, 1), talk(), CONTROLS, SERVED))
        held = [token.logits.nbytes for token in tokens._tabs.values()]
        assert sum(held) <= 4 * of_one and tokens.redraw(tab, CONTROLS)
    assert 1 < len(held) < 10 and tokens.redraw("0", CONTROLS) is None


def test_the_attention_of_a_look_inside_counts(looks, monkeypatch):
    looks.gate.set()
    tokens = InspectedTokens()
    asyncio.run(look(tokens, "first"))
    monkeypatch.setattr(inspected, "MAX_BYTES", tokens._tabs["first"].inside.attention.nbytes)
    asyncio.run(look(tokens, "second"))
    assert tokens.attention("first", 1, 1) == ""  # two would be over it
    assert "%" in tokens.attention("second", CONFIG.num_hidden_layers, 1)


def test_after_a_look_inside_the_alternatives_still_follow_the_sliders(looks):
    """Once the look put a fresh token in place, without the logits that the list is drawn from."""
    looks.gate.set()
    tokens, at = InspectedTokens(), Pointer("tab", 1, 1)
    asyncio.run(tokens.plot(at, talk(), CONTROLS, SERVED))
    asyncio.run(look(tokens, "tab"))
    top_2 = replace(CONTROLS, values={**CONTROLS.values, "top_k": 2})
    assert "Cut here: 2 of" in tokens.redraw("tab", top_2)
    engine = FakeEngine()
    engine.next_token_logits_async = None  # not asked again for the same place
    asyncio.run(tokens.plot(at, talk(), CONTROLS, Served(engine, SERVED.model)))
    assert "%" in tokens.attention("tab", 1, 1)


def test_a_look_inside_a_word_of_another_model_is_refused(looks):
    looks.gate.set()
    tokens = InspectedTokens()
    tokens.point(Pointer("tab", 1, 1), talk(), CONTROLS, SERVED)
    for session, served in (("tab", Served(FakeEngine(), fake_model("other"))), ("nobody", SERVED)):
        with pytest.raises(InspectionError, match="click the word again"):
            asyncio.run(tokens.look_inside(session, served))
