"""The tab "Model": which model is loaded, which ones there are, how much memory they need, and loading another one."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from html import escape
from typing import Any

import gradio as gr

from llama_core.errors import UserError
from web.chat import status
from web.chat.status import bytes_in_words, count_in_words
from web.models import catalog
from web.models.manager import ModelLoading, ModelManager, Served
from web.page.html import html
from web.settings import Settings
from web.strings import TEXT

POLL_SECONDS = 0.25

_log = logging.getLogger(__name__)


class ModelPanel:
    """Built inside the tab."""

    def __init__(self, manager: ModelManager, settings: Settings):
        self.manager, self.allowed, self._is_local = manager, settings.may_switch, settings.is_local
        self.now = html(_now(manager.served), elem_id="model-now")
        if not self.allowed:
            html(f'<p class="hint">{TEXT["model_off"]}</p>')
            return
        self.picked = gr.Radio(catalog.choices(), label=TEXT["model_choice"], elem_id="model-choice")
        words = ("model_typed", "model_typed_hint") if self._is_local else ("model_typed_hub", "model_typed_hub_hint")
        self.typed = gr.Textbox(label=TEXT[words[0]], info=TEXT[words[1]], max_lines=1)
        self.file = gr.Dropdown(
            [], label=TEXT["model_file"], info=TEXT["model_file_hint"], visible=False, elem_id="model-file"
        )
        with gr.Row():
            self.check = gr.Button(TEXT["model_check"])
            self.load = gr.Button(TEXT["model_load"], variant="primary")
            self.cancel = gr.Button(TEXT["model_cancel"])
        self.said = html("", elem_id="model-said")

    def connect(self, page: gr.Blocks, length: Any, shown: list, swapped: Callable[[Any], list], quiet: dict) -> None:
        """`shown` are the components that depend on the model, `swapped` their new values from that of `length`."""
        if not self.allowed:
            return
        # When the page is opened, not when it is built: a folder may have come into weights/ since.
        page.load(lambda: gr.Radio(choices=catalog.choices()), None, self.picked, **quiet)
        names = [self.picked, self.typed]
        said = [self.said, self.file]
        gr.on([self.check.click, self.picked.input], self._check, names, said, trigger_mode="always_last", **quiet)
        chosen = self.file.input(lambda name: name, self.file, self.typed, **quiet)
        chosen.then(self._check, names, said, **quiet)
        self.cancel.click(self._cancel, None, self.said, **quiet)
        run = self.load.click(self._load, names, [self.said, self.now], **quiet)
        run.success(swapped, length, shown, **quiet)

    async def _check(self, picked: Any, typed: Any) -> AsyncIterator[list]:
        try:
            name = self._name(picked, typed)
        except UserError as problem:
            yield [status.problem(str(problem)), gr.skip()]
            return
        yield [status.line(TEXT["model_looking"].format(name=name)), gr.skip()]
        files: list[tuple[str, int]] = []
        try:
            files = await asyncio.to_thread(self.manager.files, name)
            said = await asyncio.to_thread(self._estimate, name)
        except Exception as problem:  # whatever the Hub, a file or a network says goes to the person
            said = self._problem(name, str(problem))
        yield [said, _file_choice(files, name)]

    def _name(self, picked: Any, typed: Any) -> str:
        """What was typed or chosen. Raises `NotOffered`."""
        name = (typed or "").strip() or (picked or "")
        if not name:
            raise catalog.NotOffered(TEXT["model_choose"])
        return name if self._is_local else catalog.name_for_strangers(name)

    def _problem(self, name: str, problem: str) -> str:
        """Why a model cannot be loaded. Strangers are not told where things lie on the server; the console is."""
        _log.warning("%s: %s", name, problem)
        return status.problem(problem if self._is_local else status.without_paths(problem))

    def _estimate(self, name: str) -> str:
        found = self.manager.estimate(name)
        plan = found.plan
        words = TEXT["model_estimate"].format(
            name=name,
            count=count_in_words(found.parameters),
            files=bytes_in_words(found.file_bytes),
            memory=bytes_in_words(plan.total),
            weights=bytes_in_words(plan.params),
            dtype=plan.weights,
            cache=bytes_in_words(plan.cache),
            slots=plan.slots,
            context=min(plan.max_seq_len, plan.config.longest_context),
        )
        if found.free is None:
            return status.line(words)
        room = TEXT["model_fits" if found.fits else "model_tight"].format(free=bytes_in_words(found.free))
        return status.line(words) + (status.line(room) if found.fits else status.problem(room))

    async def _load(self, picked: Any, typed: Any) -> AsyncIterator[list]:
        before = self.manager.served.model.name
        try:
            name = self._name(picked, typed)
        except UserError as problem:
            yield [status.problem(str(problem)), gr.skip()]
            return
        loading = self.manager.begin(name)
        if loading is None:
            busy = self.manager.loading
            yield [status.problem(TEXT["model_busy"].format(name=busy.name if busy else "")), gr.skip()]
            return
        while not loading.ended:
            yield [_progress(loading), gr.skip()]
            await asyncio.sleep(POLL_SECONDS)
        if loading.cancelled:
            yield [status.line(TEXT["model_cancelled"].format(name=before)), gr.skip()]
        elif loading.problem is not None:
            yield [self._problem(name, TEXT["model_failed"].format(problem=loading.problem)), gr.skip()]
        else:
            served = self.manager.served
            yield [status.line(TEXT["model_loaded"].format(name=served.model.name)), _now(served)]

    def _cancel(self) -> Any:
        self.manager.cancel()
        return gr.skip()


def _now(served: Served) -> str:
    model = served.model
    facts = (model.name, TEXT["parameters"].format(count=count_in_words(model.parameter_count)), model.weights)
    return f"<h2>{TEXT['model_now']}</h2><p>{escape(' · '.join(facts))}</p>"


def _file_choice(files: list[tuple[str, int]], name: str) -> gr.Dropdown:
    """The GGUF files among which there is a choice, with their sizes; hidden where there is none."""
    choices = [(TEXT["model_file_row"].format(name=file, size=bytes_in_words(size)), file) for file, size in files]
    return gr.Dropdown(choices, value=name if name in dict(files) else None, visible=len(files) > 1)


def _progress(loading: ModelLoading) -> str:
    step, done, total = loading.step
    if not step:
        return status.line(TEXT["model_looking"].format(name=loading.name))
    return status.bar(TEXT[f"step_{step}"].format(name=loading.name, done=done, total=total), done, total)
