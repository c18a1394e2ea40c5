"""The sheet of models as its handlers are called: what people at the machine are told, and what strangers are."""

import asyncio
import os
import re
import threading

import gradio as gr
import pytest
from fake_engine import FakeEngine, fake_model

from llama_core.checkpoint import memory_plan
from llama_core.model.params import count_params
from llama_core.runtime.files import ModelFileError
from llama_core.sampling.params import SamplingParams
from web.chat.status import without_paths
from web.models.catalog import ON_THE_HUB, name_for_strangers
from web.models.manager import ModelManager, Served
from web.page import model_words
from web.page.model_sheet import ModelSheet
from web.settings import Settings
from web.strings import TEXT

AT_HOME, ABROAD = Settings(), Settings(host="0.0.0.0", switching="on")
BROKEN = "/srv/models/broken/config.json is not JSON; download it again"


def load(name, dtype, progress, **_):
    if "broken" in name:
        raise ModelFileError(BROKEN)
    return fake_model(name)


@pytest.fixture
def open_panel():
    managers = []

    def open_(settings):
        managers.append(ModelManager(settings, load, lambda *_: FakeEngine()))
        managers[-1].put("random:first", lambda *_: None)
        with gr.Blocks(analytics_enabled=False):
            return ModelSheet(managers[-1], settings)

    yield open_
    for manager in managers:
        manager.__exit__()


def said(handler, typed):
    """All that a handler shows in answer to a name."""

    async def collect():
        rows = [row async for row in handler(typed)]
        return [row if isinstance(row, str) else row[0] for row in rows]

    return asyncio.run(collect())


def test_strangers_learn_nothing_of_the_folders_of_the_server(open_panel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("model")
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "a file").write_text("")
    names = [tmp_path / "model", tmp_path, tmp_path / "a file", tmp_path / "nothing", "model", "nothing", "~", "../x"]
    panel = open_panel(ABROAD)
    answers = {tuple(said(handler, str(name))) for name in names for handler in (panel._check, panel._load)}
    [[answer]] = answers
    assert "other folders are loaded by whoever runs it" in answer and panel.manager.loading is None


def test_a_name_of_the_hub_opens_no_folder_to_strangers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("us/model")
    for name, asked in (("us/model", "us/model@main"), ("us/model@v1", "us/model@v1"), ("random:tiny", "random:tiny")):
        assert name_for_strangers(name) == asked and not os.path.exists(asked)


def test_where_files_lie_is_told_to_the_console_and_not_to_strangers(open_panel, caplog):
    [*_, answer] = said(open_panel(ABROAD)._load, "us/broken")
    assert "config.json is not JSON; download it again" in answer and "/srv" not in answer
    assert BROKEN in caplog.text
    [*_, answer] = said(open_panel(AT_HOME)._load, "us/broken")
    assert BROKEN in answer


def test_at_home_a_folder_is_loaded_by_its_path(open_panel, tmp_path):
    panel = open_panel(AT_HOME)
    assert "Loaded" in said(panel._load, str(tmp_path))[-1] and panel.manager.served.model.name == str(tmp_path)


def test_the_page_says_that_kernels_are_being_compiled():
    gate, rows = threading.Event(), []

    def slow(name, dtype, progress, compiling, **_):
        if name == "random:large":
            compiling(0, 1)
            gate.wait(60)
            compiling(1, 1)
        return fake_model(name)

    async def watch(panel):
        async for said, *_ in panel._load("random:large"):
            rows.append(said)
            if TEXT["step_kernels"] in str(said):  # as long as they are compiled
                gate.set()

    with ModelManager(AT_HOME, slow, lambda *_: FakeEngine()) as manager:
        manager.put("random:first", lambda *_: None)
        with gr.Blocks(analytics_enabled=False):
            panel = ModelSheet(manager, AT_HOME)
        asyncio.run(watch(panel))
    assert gate.is_set() and "Loaded" in rows[-1]


def test_nothing_chosen_is_said(open_panel):
    for panel in (open_panel(AT_HOME), open_panel(ABROAD)):
        assert "Choose a model" in said(panel._load, " ")[0] and "Choose a model" in said(panel._check, None)[0]


def test_the_list_says_nothing_of_where_its_folders_lie(open_panel):
    names = [name for listed in open_panel(ABROAD)._all() for _, name in listed.choices]
    assert "weights:guide" in names and not any(name.startswith(("/", "~")) for name in names)


def test_the_lists_are_told_apart_by_what_this_machine_has_room_for(open_panel, monkeypatch):
    monkeypatch.setattr(memory_plan, "free_bytes", lambda device: 3_000_000_000)
    built_in, fits, larger = open_panel(AT_HOME)._all()
    assert [name for _, name in built_in.choices] == ["weights:guide", "random:tiny", "random:135M"]
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in dict(map(reversed, fits.choices))
    assert "meta-llama/Llama-3.2-3B-Instruct" in dict(map(reversed, larger.choices))
    for label, _ in fits.choices:
        assert re.search(r"\n✓ \S+ · .* file · needs [\d.]+ [MG]B", label)
    assert all("\n✕ " in label for label, _ in larger.choices)


def test_the_field_searches_the_lists(open_panel):
    panel = open_panel(AT_HOME)
    panel._all()
    lists = panel._found(" smollm2-1.7 ")
    assert [name for listed in lists for _, name in listed.choices] == ["HuggingFaceTB/SmolLM2-1.7B-Instruct"]
    assert [listed.visible for listed in lists].count(True) == 1 and not any(listed.value for listed in lists)


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_shapes_of_the_list_have_as_many_parameters_as_their_pages_say(name):
    """The published counts; a file holds two bytes for each of them."""
    model = ON_THE_HUB[name]
    published = {"135M": 134_515_008, "360M": 361_821_120, "1.1B": 1_100_048_384, "2-1B": 1_235_814_400}
    published |= {"1.7B": 1_711_376_384, "2-3B": 3_212_749_824}
    [count] = [count for size, count in published.items() if size in name]
    assert count_params(model.shape) == count
    assert model.file_bytes == pytest.approx(2 * count, rel=0.01)


def test_what_the_makers_recommend_is_said_and_a_model_without_it_begins_cautiously():
    quiet, told = Served(FakeEngine(), fake_model()), Served(FakeEngine(), fake_model())
    told.model.defaults = SamplingParams(temperature=0.2, top_p=0.9)
    assert "Recommended by its makers, and set: Temperature 0.2, Top-p 0.9<" in model_words.facts(told)
    assert (told.sampling, quiet.sampling.temperature) == (told.model.defaults, 0.4)
    assert "recommend no sampling; the page starts with Temperature 0.4, Min-p 0.05" in model_words.facts(quiet)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/root/.cache/hub/x.safetensors is damaged", "x.safetensors is damaged"),
        ("cannot write '/srv/a/b'; 3 tokens/s", "cannot write 'b'; 3 tokens/s"),
        ("~/models/x: there is no folder ~/models/x/", "x: there is no folder x"),
        (r"C:\Users\me\x.gguf (C:\Users)", "x.gguf (Users)"),
        ("see https://huggingface.co/us/model, or us/model and and/or", None),
        ("model.layers.3: [96, 64], 1/2, \\n \\t </b>", None),
    ],
)
def test_of_a_path_its_last_part_is_left(text, shown):
    assert without_paths(text) == (text if shown is None else shown)
