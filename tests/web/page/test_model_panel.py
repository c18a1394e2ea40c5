"""The tab "Model" as its handlers are called: what people at the machine are told, and what strangers are."""

import asyncio
import os
import threading

import gradio as gr
import pytest
from fake_engine import FakeEngine, fake_model

from llama_core.runtime.files import ModelFileError
from web.chat.status import without_paths
from web.models.catalog import name_for_strangers
from web.models.manager import ModelManager
from web.page.model_panel import ModelPanel
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
            return ModelPanel(managers[-1], settings)

    yield open_
    for manager in managers:
        manager.__exit__()


def said(handler, typed, picked=""):
    """All that a handler shows in answer to a name."""

    async def collect():
        rows = [row async for row in handler(picked, typed)]
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
    assert "is loaded" in said(panel._load, str(tmp_path))[-1] and panel.manager.served.model.name == str(tmp_path)


def test_the_page_says_that_kernels_are_being_compiled():
    gate, rows = threading.Event(), []

    def slow(name, dtype, progress, compiling, **_):
        if name == "random:large":
            compiling(0, 1)
            gate.wait(60)
            compiling(1, 1)
        return fake_model(name)

    async def watch(panel):
        async for said, _ in panel._load("", "random:large"):
            rows.append(said)
            if TEXT["step_kernels"] in str(said):  # as long as they are compiled
                gate.set()

    with ModelManager(AT_HOME, slow, lambda *_: FakeEngine()) as manager:
        manager.put("random:first", lambda *_: None)
        with gr.Blocks(analytics_enabled=False):
            panel = ModelPanel(manager, AT_HOME)
        asyncio.run(watch(panel))
    assert gate.is_set() and "is loaded" in rows[-1]


def test_nothing_chosen_is_said(open_panel):
    for panel in (open_panel(AT_HOME), open_panel(ABROAD)):
        assert "Choose a model" in said(panel._load, " ")[0] and "Choose a model" in said(panel._check, None)[0]


def test_the_list_says_nothing_of_where_its_folders_lie(open_panel):
    names = [name for _, name in open_panel(ABROAD).picked.choices]
    assert "weights:guide" in names and not any(name.startswith(("/", "~")) for name in names)


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
