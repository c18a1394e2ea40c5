"""The page: which components there are, and which handler each event calls. The handlers are in events.py."""

import asyncio
from collections.abc import AsyncIterator
from html import escape
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState

from web.api.clients import Clients
from web.chat import status
from web.languages import TranslatedBlocks
from web.models.manager import ModelManager
from web.page import welcome
from web.page.controls import ControlPanel
from web.page.events import PageEvents
from web.page.hood_panel import HoodPanel
from web.page.html import html
from web.page.inside_panel import InsidePanel
from web.page.inspected import InspectedTokens
from web.page.model_sheet import ModelSheet
from web.page.model_words import chip_label, facts
from web.settings import Settings
from web.strings import SCRIPT, TEXT

# Of how many tabs the server knows which components were changed, 0.1 MB each. One that is forgotten, because the
# others did something later, has the components of the start again.
MAX_SESSIONS = 500
POLL_SECONDS = 0.25  # how often a page asks whether the engine is ready

# No spinner over the conversation, no endpoint for other programs, and no waiting for other people's events.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}

# What of the conversation the prompt needs, as the browser holds it, stands in for what the server has sent last.
ASK_JS = "(typed, chat, ...controls) => [...Glass.chat.ask(typed), ...controls]"
ACT_JS = "(typed, chat, ...controls) => [typed, Glass.chat.outbox.shift(), ...controls]"
# Which conversation is meant.
ID_JS = "(chat, ...controls) => [Glass.chat.chat.id, ...controls]"
# The server went away in mid-reply: what has come stays.
ON_DISCONNECT_JS = "() => Glass.chat.lost()"
# Stop instead of Send while the reply of the conversation that is shown is being written.
BUTTONS_JS = "() => ({ __type__: 'update', submit_btn: !Glass.chat.busy, stop_btn: Glass.chat.busy })"

# An earlier conversation brings its own words back into the boxes beside it; a new one takes those that stand there.
OPENED_JS = (
    "(...now) => { const { id, system, stop } = Glass.chat.chat; return id ? [system || '', stop || ''] : now; }"
)
# What stands beside the conversation is kept by the browser.
KEEP_JS, RESTORE_JS = "(...now) => Glass.settings.keep(...now)", "(...now) => Glass.settings.restored(...now)"


def build_page(manager: ModelManager, settings: Settings, clients: Clients) -> TranslatedBlocks:
    """The page of the model that `manager` serves."""
    with TranslatedBlocks(title=settings.title, fill_height=True, analytics_enabled=False) as page:
        Page(manager, settings, clients).connect(page)
    page.translate(lambda: Page(manager, settings, clients))
    page.max_threads = 128  # a private hook: the default of 40 also caps async handlers, so 40 chats would be all
    page.queue(api_open=False, default_concurrency_limit=None)
    page._queue.sleep_when_free = 0.01  # a private hook: an idle page otherwise burns 8 % of a core polling
    page.state_session_capacity = MAX_SESSIONS
    return page


def _keep_no_value(self: SessionState, key: int, value: Any) -> None:
    """Gradio keeps the last values of every tab, open or closed: whole replies, of 10 000 tabs. They are
    for links to a page's state, which this page does not have."""


SessionState._update_value_in_config = _keep_no_value  # type: ignore  # a private hook


class Page:
    """The components, in the order in which Tab walks them."""

    def __init__(self, manager: ModelManager, settings: Settings, clients: Clients):
        self.manager, self.settings = manager, settings
        served, inspected = manager.served, InspectedTokens()
        with gr.Sidebar(label=TEXT["chats"], position="left", width=240, open=False, elem_id="library"):
            html(html_template="", elem_id="chats", js_on_load="Glass.chats.mount(element);")
        with gr.Row(elem_id="top"):
            html(f"<h1>{escape(settings.title)}</h1>", elem_id="header")
            self.model = ModelSheet(manager, settings)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab(TEXT["chat"], id="chat"):
                self._chat()
            with gr.Tab(TEXT["hood"], id="hood") as self.hood_tab:
                self.hood = HoodPanel(manager)
        with gr.Sidebar(label=TEXT["settings"], position="right", width=320, open=False, elem_id="settings"):
            self.panel = ControlPanel(served, settings, lambda: InsidePanel(manager, inspected))
        self.events = PageEvents(manager, inspected, self.panel, self.panel.inside, clients)

    def _chat(self) -> None:
        self.conversation = html(
            "",
            html_template='<div class="unseen"></div>',
            elem_id="conversation",
            welcome=welcome.of(self.manager.served, self.settings.may_switch),
            js_on_load="Glass.conversation.mount(element, props, trigger, watch); "
            "// sends 'act', 'opened', 'look', 'running'",
        )
        # Apart from the conversation, so that only what is new has to travel and to be compared; two, so that of two
        # replies that end in one moment neither takes the other's last words.
        self.streams = [
            html(
                "",
                html_template="",
                elem_id=name,
                visible="hidden",
                js_on_load="Glass.conversation.mountStream(props, watch);",
            )
            for name in ("stream", "stream-right")
        ]
        with gr.Column(elem_id="composer"):
            mount = "Glass.status.mount(element, props, watch);"
            self.line = html("", html_template='<div class="unseen"></div>', elem_id="status", js_on_load=mount)
            self.box = gr.Textbox(
                label=TEXT["message"],
                elem_id="message",
                show_label=False,
                placeholder=SCRIPT["message_hint"],
                lines=1,
                max_lines=8,
                autofocus=True,
                submit_btn=True,
                stop_btn=False,
            )

    @property
    def outputs(self) -> list[Any]:
        """What `events.outputs` has values for."""
        return [self.conversation, *self.streams, self.line, self.panel.plot, self.panel.inside.lens]

    def connect(self, page: gr.Blocks) -> None:
        """Which handler each event calls."""
        state, events = [self.box, self.conversation, *self.panel.inputs], self.events
        many: dict[str, Any] = {**QUIET, "trigger_mode": "multiple"}  # replies of several conversations at once
        asked = [
            self.box.submit(events.submit, state, self.outputs, js=ASK_JS, **many),
            self.conversation.act(events.act, state, self.outputs, js=ACT_JS, **many),
        ]
        for event in asked:
            event.failure(None, None, None, js=ON_DISCONNECT_JS, **QUIET)
        self.conversation.running(None, None, self.box, js=BUTTONS_JS, **many)
        self.box.stop(events.stop, self.conversation, None, js=ID_JS, **QUIET)
        moved = [slider.change for slider in self.panel.sliders]
        beside = [self.conversation, *self.panel.inputs]
        gr.on(moved, events.tune, beside, self.panel.plot, js=ID_JS, trigger_mode="always_last", **QUIET)
        self.panel.connect(page, QUIET)
        self.hood.connect(self.hood_tab, QUIET)
        self.panel.inside.connect(QUIET)
        forgotten = [self.panel.plot, self.panel.inside.lens, self.panel.inside.fold]
        self.conversation.opened(events.opened, None, forgotten, **QUIET)
        self._follow_the_model(page)
        texts = [self.panel.system, self.panel.stop]
        self.conversation.opened(None, texts, texts, js=OPENED_JS, **QUIET)
        page.unload(events.closed)

    def _follow_the_model(self, page: gr.Blocks) -> None:
        """It may be another one by now: loaded here, or in another tab."""
        panel, beside = self.panel, self.panel.inputs
        needed = [panel.defaults, *panel.sliders]
        shown = [self.conversation, panel.system, self.model.chip, self.model.now, *panel.sliders]
        shown.append(panel.defaults)
        self.model.connect(page, self._swapped, needed, shown, QUIET)
        restored = page.load(None, beside, beside, js=RESTORE_JS, **QUIET)
        restored.then(self._opened, needed, [*shown, self.line], **QUIET)
        gr.on([control.change for control in beside], None, beside, None, js=KEEP_JS, **QUIET)
        self.conversation.look(self._swapped, needed, shown, **QUIET)

    def _swapped(self, before: Any, *values: Any) -> list[Any]:
        served, panel = self.manager.served, self.panel
        first, chip = gr.HTML(welcome=welcome.of(served, self.settings.may_switch)), gr.Button(chip_label(served))
        parts = [first, panel.system_for(served), chip, facts(served)]
        return [*parts, *panel.follow(served, before if isinstance(before, dict) else {}, values)]

    async def _opened(self, request: gr.Request, before: Any, *values: Any) -> AsyncIterator[list[Any]]:
        """What the page shows first, and how the engine gets ready. A reply tells of itself, also of its end."""
        parts = await asyncio.to_thread(self._swapped, before, *values)
        asked, waits, has_waited = False, True, False
        while waits:
            engine = self.manager.served.engine
            before, asked = asked, bool(self.events.replies.of_tab(request.session_hash or ""))
            waits = engine.healthy and not engine.ready
            is_news = not engine.ready or (has_waited and not before)
            state, has_waited = status.of_engine(engine) if is_news and not asked else gr.skip(), waits
            yield [*parts, state]  # also to say nothing: Gradio sends the last one once more at the end
            parts = [gr.skip()] * len(parts)
            await asyncio.sleep(POLL_SECONDS if waits else 0)
