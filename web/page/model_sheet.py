"""The sheet under the model's chip in the header: which model answers, which others there are, how much memory they
need, and loading one of them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, get_args

import gradio as gr

from llama_core.errors import UserError
from web.chat import status
from web.chat.status import bytes_in_words
from web.models import catalog
from web.models.manager import ModelLoading, ModelManager
from web.models.offers import Group, Offer, offers
from web.page.html import html
from web.page.model_words import chip_label, estimate_in_words, facts, offer_label
from web.settings import Settings
from web.strings import TEXT

POLL_SECONDS = 0.25
GROUPS = get_args(Group)
# What is chosen in a list goes into the field at once, in the browser: the field alone says which model is meant.
PICK_JS = "(name) => [name, null, null]"
OPEN_JS = "() => { Glass.sheet.open(); return ''; }"

_log = logging.getLogger(__name__)


class ModelSheet:
    """The chip is built where it is made, the sheet over the page."""

    def __init__(self, manager: ModelManager, settings: Settings):
        self.manager, self.allowed, self._is_local = manager, settings.may_switch, settings.is_local
        self._offers: list[Offer] = []  # as they were when the sheet was last opened, by whomever
        self.chip = gr.Button(chip_label(manager.served), elem_id="model-chip", size="sm")
        with gr.Column(elem_id="model-sheet"):
            self.now = html(facts(manager.served), elem_id="model-now", js_on_load="Glass.sheet.mount(element);")
            if not self.allowed:
                html(f'<p class="hint">{TEXT["model_off"]}</p>')
                return
            self._choice()

    def _choice(self) -> None:
        with gr.Row(elem_id="model-row"):
            self.name = gr.Textbox(
                label=TEXT["model_name"],
                placeholder=TEXT["model_name_hint" if self._is_local else "model_name_hub_hint"],
                elem_id="model-name",
                max_lines=1,
                scale=4,
            )
            self.check = gr.Button(TEXT["model_check"], scale=1, elem_id="model-check")
            self.load = gr.Button(TEXT["model_load"], variant="primary", scale=1, elem_id="model-load")
            self.cancel = gr.Button(TEXT["model_cancel"], visible=False, scale=1, elem_id="model-cancel")
        self.said = html("", elem_id="model-said")
        self.file = gr.Dropdown(
            [], label=TEXT["model_file"], info=TEXT["model_file_hint"], visible=False, elem_id="model-file"
        )
        self.lists = [gr.Radio([], elem_classes="models", visible=False) for _ in GROUPS]

    def connect(self, page: gr.Blocks, swap: Callable[..., list], needed: list, shown: list, quiet: dict) -> None:
        """`swap` makes the values of `shown`, which depend on the model, from those of `needed`."""
        # The field is emptied here and not by the server, whose answer could come after the first words.
        self.chip.click(None, None, self.name if self.allowed else None, js=OPEN_JS, **quiet)
        if not self.allowed:
            return
        # At each opening: a folder may have come into weights/ since, and other programs take memory.
        self.chip.click(self._all, None, self.lists, **quiet)
        self.name.change(self._found, self.name, self.lists, trigger_mode="always_last", **quiet)
        said = [self.said, self.file]
        for picked in self.lists:
            others = [other for other in self.lists if other is not picked]
            chosen = picked.input(None, picked, [self.name, *others], js=PICK_JS, **quiet)
            chosen.then(self._check, self.name, said, **quiet)
        gr.on([self.check.click, self.name.submit], self._check, self.name, said, trigger_mode="always_last", **quiet)
        chosen = self.file.input(lambda name: name, self.file, self.name, **quiet)
        chosen.then(self._check, self.name, said, **quiet)
        self.cancel.click(self._cancel, None, self.said, **quiet)
        run = self.load.click(self._load, self.name, [self.said, self.now, self.load, self.cancel], **quiet)
        run.success(swap, needed, shown, **quiet)

    def _all(self) -> list[Any]:
        self._offers = offers(self.manager.estimate)
        return self._found("")

    def _found(self, name: Any) -> list[Any]:
        """The three lists, with what the field's words are a part of; as they are if the field has one of their names:
        then it was chosen there."""
        words = (name or "").strip()
        if any(offer.name == words for offer in self._offers):
            return [gr.skip()] * len(GROUPS)
        rows = [offer for offer in self._offers if words.lower() in offer.name.lower()]
        return [_list(group, [offer for offer in rows if offer.group == group]) for group in GROUPS]

    async def _check(self, typed: Any) -> AsyncIterator[list]:
        try:
            name = self._name(typed)
        except UserError as problem:
            yield [status.problem(str(problem)), gr.skip()]
            return
        yield [status.line(TEXT["model_looking"].format(name=name)), gr.skip()]
        files: list[tuple[str, int]] = []
        try:
            listed = name in catalog.ON_THE_HUB  # one file each, and no need of the Hub
            files = [] if listed else await asyncio.to_thread(self.manager.files, name)
            said = estimate_in_words(name, await asyncio.to_thread(self.manager.estimate, name))
        except Exception as problem:  # whatever the Hub, a file or a network says goes to the person
            said = self._problem(name, str(problem))
        yield [said, _file_choice(files, name)]

    def _name(self, typed: Any) -> str:
        """What stands in the field. Raises `NotOffered`."""
        name = (typed or "").strip()
        if not name:
            raise catalog.NotOffered(TEXT["model_choose"])
        return name if self._is_local else catalog.name_for_strangers(name)

    def _problem(self, name: str, problem: str) -> str:
        """Why a model cannot be loaded. Strangers are not told where things lie on the server; the console is."""
        _log.warning("%s: %s", name, problem)
        return status.problem(problem if self._is_local else status.without_paths(problem))

    async def _load(self, typed: Any) -> AsyncIterator[list]:
        before = self.manager.served.model.name
        try:
            name = self._name(typed)
        except UserError as problem:
            yield [status.problem(str(problem)), *[gr.skip()] * 3]
            return
        loading = self.manager.begin(name)
        if loading is None:
            busy = self.manager.loading
            words = TEXT["model_busy"].format(name=busy.name if busy else "")
            yield [status.problem(words), gr.skip(), gr.skip(), gr.Button(visible=True)]
            return
        while not loading.ended:
            yield [_progress(loading), gr.skip(), gr.Button(visible=False), gr.Button(visible=True)]
            await asyncio.sleep(POLL_SECONDS)
        yield [self._ended(loading, name, before), facts(self.manager.served), *_idle()]

    def _ended(self, loading: ModelLoading, name: str, before: str) -> str:
        if loading.cancelled:
            return status.line(TEXT["model_cancelled"].format(name=before))
        if loading.problem is not None:
            return self._problem(name, TEXT["model_failed"].format(problem=loading.problem))
        return status.line(TEXT["model_loaded"].format(name=self.manager.served.model.name))

    def _cancel(self) -> Any:
        self.manager.cancel()
        return gr.skip()


def _idle() -> list[gr.Button]:
    return [gr.Button(visible=True), gr.Button(visible=False)]


def _list(group: Group, rows: list[Offer]) -> gr.Radio:
    free = next((row.found.free for row in rows if row.found and row.found.free), 0)
    label = TEXT[f"model_{group}"].format(free=bytes_in_words(free))
    return gr.Radio(label=label, choices=[(offer_label(row), row.name) for row in rows], value=None, visible=bool(rows))


def _file_choice(files: list[tuple[str, int]], name: str) -> gr.Dropdown:
    """The GGUF files among which there is a choice, with their sizes; hidden where there is none."""
    choices = [(TEXT["model_file_row"].format(name=file, size=bytes_in_words(size)), file) for file, size in files]
    return gr.Dropdown(choices, value=name if name in dict(files) else None, visible=len(files) > 1)


def _progress(loading: ModelLoading) -> str:
    step, done, total = loading.step
    if not step:
        return status.line(TEXT["model_looking"].format(name=loading.name))
    return status.bar(TEXT[f"step_{step}"].format(name=loading.name, done=done, total=total), done, total)
