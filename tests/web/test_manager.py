"""Models that come and go while the page is open."""

import threading
import time
from types import SimpleNamespace

import pytest
from fake_engine import FakeEngine, fake_model

from llama_core.runtime.files import ModelFileError
from llama_core.sampling.params import SamplingParams
from web.models import catalog
from web.models.manager import ModelManager
from web.page import welcome
from web.settings import Settings


def wait(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def load(name, dtype, progress, **_):
    if name == "random:broken":
        raise ModelFileError("broken.safetensors is damaged; download it again")
    progress(1, 2)
    return fake_model(name.removeprefix("random:"))


@pytest.fixture
def manager():
    with ModelManager(Settings(), load, lambda *_: FakeEngine(pace=100)) as manager:
        manager.put("random:first", lambda *_: None)
        yield manager


@pytest.fixture
def cold_manager():
    """A manager whose engines get ready when the test heats them."""
    with ModelManager(Settings(), load, lambda *_: FakeEngine(pace=100, cold=True)) as manager:
        yield manager


def test_the_first_model_can_be_asked_before_it_is_ready(cold_manager):
    loading = cold_manager.start("random:first", lambda *_: None)
    assert cold_manager.model.name == loading.name == "first" and cold_manager.healthy and not cold_manager.ready
    assert cold_manager.begin("random:second") is None
    generation = cold_manager.engine.submit([20], SamplingParams(max_new_tokens=3))
    cold_manager.cancel()  # it is the only one there is
    cold_manager.engine.heat(3)
    wait(lambda: loading.step == ("compile", 3, 8))
    assert generation.token_ids == []
    cold_manager.engine.heat(5)
    assert loading.wait() is None and not loading.cancelled and cold_manager.ready
    wait(lambda: generation.finish_reason == "length")


def test_what_cannot_be_started_is_refused_at_the_door(cold_manager):
    with pytest.raises(ModelFileError, match="damaged"):
        cold_manager.start("random:broken", lambda *_: None)
    assert cold_manager.engine is None and not cold_manager.healthy


def test_the_old_model_serves_until_the_new_one_is_ready(manager, monkeypatch):
    before, cold = manager.engine, FakeEngine(cold=True)
    monkeypatch.setattr(manager, "_serve", lambda *_: cold)
    loading = manager.begin("random:second")
    cold.heat(2)
    wait(lambda: loading.step == ("compile", 2, 8))
    assert manager.engine is before and manager.ready and manager.model.name == "first"
    manager.cancel()
    cold.heat(1)
    loading.wait()
    assert loading.cancelled and loading.problem is None and manager.engine is before


def test_another_model_takes_over_and_running_replies_end_in_peace(manager):
    before, generation = manager.engine, manager.engine.submit([20], SamplingParams(max_new_tokens=30))
    manager.begin("random:second")
    wait(lambda: manager.model.name == "second")
    assert manager.engine is not before and not before.closed
    wait(lambda: before.closed)
    assert generation.finish_reason == "length"


def test_what_cannot_be_loaded_leaves_the_old_one_in_place(manager):
    loading = manager.begin("random:broken")
    wait(lambda: loading.ended)
    assert "damaged" in str(loading.problem) and manager.model.name == "first" and not manager.engine.closed


def test_one_at_a_time_and_cancelled_at_will():
    gate = threading.Event()

    def slow(name, dtype, progress, **_):
        gate.wait(5)
        progress(1, 2)
        return fake_model(name)

    with ModelManager(Settings(), slow, lambda *_: FakeEngine()) as manager:
        loading = manager.begin("random:slow")
        assert manager.begin("random:other") is None
        loading.cancel()
        gate.set()
        wait(lambda: loading.ended)
        assert loading.cancelled and loading.problem is None and manager.model is None


def test_the_model_on_offer_are_the_guide_folders_the_hub_and_noise(tmp_path):
    for name in ("zebra", "guide", "not a model"):
        (tmp_path / name).mkdir()
        if " " not in name:
            (tmp_path / name / "config.json").write_text("{}")
    names = [name for _, name in catalog.choices(tmp_path)]
    assert names[:2] == [str(tmp_path / "guide"), str(tmp_path / "zebra")]
    assert names[2:] == [row.name for row in catalog.ON_THE_HUB] + list(catalog.RANDOM)


def test_the_page_says_what_kind_of_model_it_is(tmp_path):
    guide = tmp_path / "guide"
    guide.mkdir()
    (guide / "examples.json").write_text('["One?", "Two?", "Three?", "Four?", "Five?", 6]')
    chatty = SimpleNamespace(name="x", is_random=False, chat=SimpleNamespace(has_template=True))
    assert welcome.notice(chatty, guide) == "" and welcome.of(chatty, guide)["examples"] == []
    mine = SimpleNamespace(name="guide", is_random=False, chat=SimpleNamespace(has_template=True))
    assert "very small model" in welcome.notice(mine, guide) and "Model" in welcome.notice(mine, guide)
    assert welcome.of(mine, guide)["examples"] == ["One?", "Two?", "Three?", "Four?"]
    assert "not trained to chat" in welcome.notice(fake_model(), guide)
    (guide / "examples.json").write_text("{")
    assert welcome.of(mine, guide)["examples"] == []
