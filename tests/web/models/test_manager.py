"""Models that come and go while the page is open."""

import gc
import json
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints import forward
from fake_engine import FakeEngine, fake_model
from scipy.special import softmax

from llama_core import load_checkpoint
from llama_core.checkpoint import memory_plan
from llama_core.checkpoint.memory_plan import Plan
from llama_core.model.config import NAMED_CONFIGS
from llama_core.runtime.files import ModelFileError
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.chat_template import Chat
from web.models import catalog
from web.models.manager import ModelManager, Served
from web.models.offers import offers
from web.page import welcome
from web.settings import GUIDE, Settings


def wait(condition):
    end = time.monotonic() + 60
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
    assert cold_manager.served.model.name == loading.name == "first" and cold_manager.healthy and not cold_manager.ready
    assert cold_manager.begin("random:second") is None
    generation = cold_manager.served.engine.submit([20], SamplingParams(max_new_tokens=3))
    cold_manager.cancel()  # it is the only one there is
    cold_manager.served.engine.heat(3)
    wait(lambda: loading.step == ("compile", 3, 8))
    assert generation.token_ids == []
    cold_manager.served.engine.heat(5)
    assert loading.wait() is None and not loading.cancelled and cold_manager.ready
    wait(lambda: generation.finish_reason == "length")


def test_what_cannot_be_started_is_refused_at_the_door(cold_manager):
    with pytest.raises(ModelFileError, match="damaged"):
        cold_manager.start("random:broken", lambda *_: None)
    assert not cold_manager.healthy
    with pytest.raises(RuntimeError, match="no model is served"):
        assert cold_manager.served


def test_the_old_model_serves_until_the_new_one_is_ready(manager, monkeypatch):
    before, cold = manager.served.engine, FakeEngine(cold=True)
    monkeypatch.setattr(manager, "_serve", lambda *_: cold)
    loading = manager.begin("random:second")
    cold.heat(2)
    wait(lambda: loading.step == ("compile", 2, 8))
    assert manager.served.engine is before and manager.ready and manager.served.model.name == "first"
    manager.cancel()
    cold.heat(1)
    loading.wait()
    assert loading.cancelled and loading.problem is None and manager.served.engine is before


def test_another_model_takes_over_and_running_replies_end_in_peace(manager):
    before = manager.served.engine
    before.hold = 1
    generation = before.submit([20], SamplingParams(max_new_tokens=30))
    manager.begin("random:second")
    wait(lambda: manager.served.model.name == "second")
    assert manager.served.engine is not before and not before.closed
    before.hold = None
    wait(lambda: before.closed)
    assert generation.finish_reason == "length"


def test_what_cannot_be_loaded_leaves_the_old_one_in_place(manager):
    loading = manager.begin("random:broken")
    wait(lambda: loading.ended)
    assert (
        "damaged" in str(loading.problem) and manager.served.model.name == "first" and not manager.served.engine.closed
    )


def test_a_context_that_nobody_asked_for_is_cut_until_weights_that_the_config_denies_fit(monkeypatch):
    """A model is checked a second time if its file has a head of its own that the config does not name."""
    tied, served = replace(NAMED_CONFIGS["1B"], tie_word_embeddings=True), []
    free = Plan(tied, "float32", 8, 4096).total
    monkeypatch.setattr(memory_plan, "free_bytes", lambda device: free)

    def load(name, dtype, progress, check, **_):
        check(Plan(tied, "float32", 1, 256))
        check(Plan(replace(tied, tie_word_embeddings=False), "float32", 1, 256))
        return fake_model(name)

    with ModelManager(Settings(slots=8), load, lambda *given: served.append(given) or FakeEngine()) as manager:
        manager.put("random:own-head", lambda *_: None)
    assert served[0][2] < 4096


def test_one_at_a_time_and_cancelled_at_will():
    gate = threading.Event()

    def slow(name, dtype, progress, **_):
        gate.wait(60)
        progress(1, 2)
        return fake_model(name)

    with ModelManager(Settings(), slow, lambda *_: FakeEngine()) as manager:
        loading = manager.begin("random:slow")
        assert manager.begin("random:other") is None
        loading.cancel()
        gate.set()
        wait(lambda: loading.ended)
        assert loading.cancelled and loading.problem is None and not manager.healthy
        with pytest.raises(RuntimeError, match="no model is served"):
            assert manager.served


def test_the_model_on_offer_are_the_guide_folders_the_hub_and_noise(tmp_path):
    for name in ("zebra", "guide", "not a model"):
        (tmp_path / name).mkdir()
        if " " not in name:
            (tmp_path / name / "config.json").write_text("{}")
    names = catalog.local_names(tmp_path, tmp_path / "guide")
    assert names == ["weights:guide", "weights:zebra"]
    assert [catalog.path_of(name, tmp_path) for name in names] == [str(tmp_path / "guide"), str(tmp_path / "zebra")]
    assert catalog.path_of("us/model", tmp_path) == "us/model"
    for name in ("weights:not a model", "weights:nothing", "weights:../zebra", "weights:"):
        with pytest.raises(catalog.NotOffered):
            catalog.path_of(name, tmp_path)
    listed = [offer.name for offer in offers(ModelManager(Settings()).estimate)]
    assert {"weights:guide", *catalog.RANDOM, *catalog.ON_THE_HUB} <= set(listed)


def test_gguf_files_are_on_offer_too(tmp_path):
    for name in ("a.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf", "c/model.gguf", "d/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "d" / "model.gguf").touch()
    (tmp_path / "d" / "config.json").write_text("{}")
    names = catalog.local_names(tmp_path, tmp_path / "guide")
    assert names == ["weights:" + name for name in ("a.gguf", "b-00001-of-00002.gguf", "c", "d")]


def test_the_files_among_which_to_choose_are_those_of_folders_and_repositories(manager, tmp_path):
    for name in ("m-Q8_0.gguf", "m-Q4_0.gguf"):
        (tmp_path / name).write_bytes(bytes(10))
    expected = {str(tmp_path / name): 10 for name in ("m-Q8_0.gguf", "m-Q4_0.gguf")}
    assert dict(manager.files(str(tmp_path))) == expected
    assert manager.files("random:tiny") == manager.files(str(tmp_path / "m-Q8_0.gguf")) == manager.files(GUIDE) == []


def test_only_the_folder_of_this_program_is_the_guide(tmp_path):
    other = tmp_path / "guide"
    other.mkdir()
    (other / "config.json").write_text("{}")
    assert catalog.local_names(tmp_path) == ["weights:guide"]
    with ModelManager(Settings(), load, lambda *_: FakeEngine()) as manager:
        for name, is_guide in ((str(other), False), (GUIDE, True), (f"{GUIDE}/../guide/", True), ("guide", False)):
            manager.put(name, lambda *_: None)
            assert manager.served.is_guide is is_guide


def test_the_page_says_what_kind_of_model_it_is(tmp_path):
    guide = tmp_path / "guide"
    guide.mkdir()
    (guide / "examples.json").write_text('["One?", "Two?", "Three?", "Four?", "Five?", 6]')
    chatty = SimpleNamespace(id="x", name="x", is_random=False, chat=SimpleNamespace(has_template=True))
    other, mine = Served(FakeEngine(), chatty), Served(FakeEngine(), chatty, is_guide=True)
    assert welcome.notice(other) == "" and len(welcome.of(other, True, guide)["examples"]) == 4
    assert "tiny built-in model" in welcome.notice(mine)
    assert welcome.of(mine, True, guide)["examples"] == ["One?", "Two?", "Three?", "Four?"]
    assert [
        welcome.of(served, may, guide)["larger"] for served, may in ((mine, True), (mine, False), (other, True))
    ] == [True, False, False]
    assert not welcome.of(other, True, guide)["continues"]
    base = fake_model()
    base.chat = Chat(base.tokenizer)
    assert "not trained to chat" in welcome.notice(Served(FakeEngine(), base))
    said = welcome.of(Served(FakeEngine(slots=1), base), True, guide)
    assert said["continues"] and said["slots"] == 1
    (guide / "examples.json").write_text("{")
    assert welcome.of(mine, True, guide)["examples"] == []


def test_the_stored_sentence_is_what_the_guide_says():
    """Its shares computed again by a forward pass of the whole text, without an engine."""
    stored = json.loads((Path(GUIDE) / "sample.json").read_text())
    question, reply = stored["chat"]["nodes"]
    model = load_checkpoint(GUIDE)
    assert reply["model_id"] == model.id
    prompt = model.chat.prompt_ids([{"role": "user", "content": question["words"]}])
    ids = [token[0] for token in reply["tokens"]]
    logits = forward(model.params, np.array([[*prompt, *ids]]), model.config)[0][0]
    shares = softmax(np.where(model.drawable, np.asarray(logits), -np.inf), axis=-1)
    for at, (token_id, _, share, _, others) in enumerate(reply["tokens"]):
        row = shares[len(prompt) + at - 1]
        assert share == pytest.approx(float(row[token_id]), abs=2e-3)
        assert [other[0] for other in others[:3] if other[2] > 0.01] == [
            int(best) for best in np.argsort(-row)[:3] if row[best] > 0.01
        ]


def test_a_load_that_fails_keeps_its_words_and_not_its_weights():
    weights = []

    def fail(name, dtype, progress, **_):
        arrays = np.zeros(3)
        weights.append(weakref.ref(arrays))
        raise MemoryError

    with ModelManager(Settings(), fail, lambda *_: FakeEngine()) as manager:
        assert manager.begin("random:large").wait() == "MemoryError"
        gc.collect()
        assert weights[0]() is None
