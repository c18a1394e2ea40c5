"""The page: which components there are and which handler each event calls. What handlers do stands in actions.py,
replies.py and chosen.py."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from html import escape
from typing import Any

import gradio as gr

from llama_core.engine.engine import EngineError
from llama_core.tokenizer.chat_template import ChatError
from web.chat import actions, export, status
from web.chat.actions import Controls, PendingReply
from web.chat.conversation import Conversation, HistoryError, dump, read_conversation, write_conversation
from web.chat.replies import PageUpdate, ReplyManager
from web.models.manager import ModelManager
from web.page import welcome
from web.page.controls import ControlPanel
from web.page.hood_panel import HoodPanel
from web.page.html import html
from web.page.inspected import InspectedTokens
from web.page.model_panel import ModelPanel
from web.settings import Settings
from web.strings import TEXT

POLL_SECONDS = 0.25  # how often a page looks whether the engine is ready

# No spinner over the conversation, no endpoint for other programs, and no waiting for other people's events.
QUIET = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}

# The conversation as the browser holds it stands in for what the server has sent last.
SEND = "(typed, chat, ...controls) => [typed, Glass.chat.sent, ...controls]"
# The server went away in mid-reply: what has come stays, and Send comes back.
ON_DISCONNECT_JS = "() => { Glass.chat.lost(); return { __type__: 'update', submit_btn: true, stop_btn: false }; }"

# An earlier conversation brings its own words back into the boxes beside it; a new one takes those that stand there.
OPENED = "(...now) => { const { id, system, stop } = Glass.chat.chat; return id ? [system || '', stop || ''] : now; }"


def build_page(manager: ModelManager, settings: Settings) -> gr.Blocks:
    """The page of the model that `manager` serves."""
    with gr.Blocks(title=settings.title, fill_height=True, analytics_enabled=False) as page:
        Page(manager, settings).connect(page)
    page.max_threads = 128  # a private hook: the default of 40 also caps async handlers, so 40 chats would be all
    page.queue(api_open=False, default_concurrency_limit=None)
    page._queue.sleep_when_free = 0.01  # a private hook: an idle page otherwise burns 8 % of a core polling
    return page


class Page:
    """The components, in the order in which Tab walks them."""

    def __init__(self, manager: ModelManager, settings: Settings):
        self.manager, self.settings = manager, settings
        self.replies, self.choices = ReplyManager(manager), InspectedTokens(manager)
        with gr.Sidebar(label=TEXT["chats"], position="left", width=240, elem_id="library"):
            self.library = html(
                html_template="", elem_id="chats", js_on_load="Glass.chats.mount(element, trigger); // sends 'act'"
            )
        self.header = html(self._header(), elem_id="header")
        with gr.Tabs(elem_id="tabs") as self.tabs:
            with gr.Tab(TEXT["chat"], id="chat"):
                self._chat()
            with gr.Tab(TEXT["model"], id="model"):
                self.model = ModelPanel(manager, settings)
            with gr.Tab(TEXT["hood"], id="hood") as self.hood_tab:
                self.hood = HoodPanel(manager, self.choices)
        with gr.Sidebar(label=TEXT["settings"], position="right", width=320, elem_id="settings"):
            self.panel = ControlPanel(manager, settings)

    def _chat(self) -> None:
        self.conversation = html(
            "",
            html_template='<div class="unseen"></div>',
            elem_id="conversation",
            welcome=welcome.of(self.manager.model),
            js_on_load="Glass.conversation.mount(element, props, trigger, watch); // sends 'act', 'opened', 'look'",
        )
        # Apart from the conversation, so that only what is new has to travel and to be compared.
        self.stream = html(
            "",
            html_template="",
            elem_id="stream",
            visible="hidden",
            js_on_load="Glass.conversation.mountStream(props, watch);",
        )
        self.file_channel = html(
            "",
            html_template="",
            elem_id="file_channel",
            visible="hidden",
            js_on_load="watch('value', () => Glass.chats.receive(props.value));",
        )
        with gr.Column(elem_id="composer"):
            self.line = html("", elem_id="status", js_on_load="Glass.followState(element, watch);")
            self.box = gr.Textbox(
                label=TEXT["message"],
                elem_id="message",
                show_label=False,
                placeholder=TEXT["message_hint"],
                lines=1,
                max_lines=8,
                autofocus=True,
                submit_btn=True,
                stop_btn=False,
            )

    def _header(self) -> str:
        model, title = self.manager.model, self.settings.title
        facts = (
            model.name,
            TEXT["parameters"].format(count=status.count_in_words(model.parameter_count)),
            model.dtype,
            TEXT["runs_on"].format(device=self.manager.engine.device),
        )
        spans = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
        notice = welcome.notice(model)
        note = f'<p class="notice">{escape(notice)}</p>' if notice else ""
        return f'<h1>{escape(title)}</h1><p class="facts">{spans}</p>{note}'

    def connect(self, page: gr.Blocks) -> None:
        """Which handler each event calls."""
        state = [self.box, self.conversation, *self.panel.inputs]
        self.outputs = [
            self.conversation,
            self.stream,
            self.line,
            self.box,
            self.file_channel,
            self.panel.plot,
            self.hood.lens,
            self.tabs,
        ]
        asked = self.box.submit(self._submit, state, self.outputs, js=SEND, **QUIET)
        asked.failure(None, None, self.box, js=ON_DISCONNECT_JS, **QUIET)
        self.box.stop(self._stop, None, self.outputs, **QUIET)
        for source in (self.conversation, self.library):
            asked = source.act(self._act, state, self.outputs, js=SEND, trigger_mode="multiple", **QUIET)
            asked.failure(None, None, self.box, js=ON_DISCONNECT_JS, **QUIET)
        gr.on(
            [slider.change for slider in self.panel.sliders],
            self._tune,
            self.panel.inputs,
            self.panel.plot,
            trigger_mode="always_last",
            **QUIET,
        )
        self.panel.connect(page, QUIET)
        self.hood.connect(self.hood_tab, QUIET)
        self._follow_the_model(page)
        texts = [self.panel.system, self.panel.stop]
        for opened in (page.load, self.conversation.opened):
            opened(None, texts, texts, js=OPENED, **QUIET)
        page.unload(self._closed)

    def _follow_the_model(self, page: gr.Blocks) -> None:
        """It may be another one by now: loaded here, or in another tab."""
        length = self.panel.length
        shown = [self.header, self.conversation, length]
        self.model.connect(length, shown, self._swapped, QUIET)
        page.load(self._opened, length, [*shown, self.line], **QUIET)
        self.conversation.look(self._swapped, length, shown, **QUIET)

    def _swapped(self, length: Any) -> list[Any]:
        return [
            self._header(),
            gr.HTML(welcome=welcome.of(self.manager.model)),
            self.panel.fitting(length, self.manager),
        ]

    async def _opened(self, length: Any, request: gr.Request) -> AsyncIterator[list]:
        """What the page shows first, and how the engine gets ready. A reply tells of itself, also of its end."""
        parts, asked, waits = self._swapped(length), False, True
        while waits:
            before, asked = asked, request.session_hash in self.replies.running
            waits = self.manager.healthy and not self.manager.ready
            state = status.of_engine(self.manager.engine) if not asked and (waits or not before) else gr.skip()
            yield [*parts, state]  # also to say nothing: Gradio sends the last one once more at the end
            parts = [gr.skip()] * len(parts)
            await asyncio.sleep(POLL_SECONDS if waits else 0)

    def _closed(self, request: gr.Request) -> None:
        self.replies.abandon(request.session_hash)
        self.choices.forget(request.session_hash)

    def _stop(self, request: gr.Request) -> list[Any]:
        return self._updates(self.replies.stop(request.session_hash))

    def _tune(self, request: gr.Request, *values: Any) -> Any:
        controls = self.panel.read(values)
        self.replies.update(request.session_hash, controls)
        plot = self.choices.redraw(request.session_hash, controls)
        return gr.skip() if plot is None else plot

    async def _submit(self, request: gr.Request, text: str, chat: Any, *values: Any) -> AsyncIterator[list]:
        if request.session_hash in self.replies.running:  # Enter while a reply is written: the words stay in the box
            yield self._updates(PageUpdate())
            return
        controls = self.panel.read(values)
        start = lambda: actions.ask(text, read_conversation(chat), self.manager.model, controls)  # noqa: E731
        async for update in self._run(request.session_hash, start, controls):
            yield update

    async def _act(
        self, request: gr.Request, event: gr.EventData, typed: str, chat: Any, *values: Any
    ) -> AsyncIterator[list]:
        wish = event._data if isinstance(event._data, dict) else {}
        session, controls = request.session_hash, self.panel.read(values)
        start = self._start_of(wish, chat, controls)
        if start is not None:
            async for update in self._run(session, start, controls):
                yield update
            return
        try:
            if wish.get("do") == "inspect":
                async for lens, tab in self.hood.look(session, wish, read_conversation(chat), controls):
                    yield self._updates(PageUpdate(), lens=lens, tab=tab)
            else:
                yield await self._answer(wish, session, read_conversation(chat), typed, controls)
        except (HistoryError, ChatError, EngineError, ValueError) as problem:
            yield self._updates(PageUpdate(status=status.problem(str(problem))))

    def _start_of(self, wish: dict, chat: Any, controls: Controls) -> Callable[[], PendingReply] | None:
        """The function that begins a reply, if that is what the person wants."""
        model, node = self.manager.model, wish.get("node")
        kinds: dict[str, Callable[[Conversation], PendingReply]] = {
            "ask": lambda held: actions.ask(str(wish.get("text", "")), held, model, controls),
            "edit": lambda held: actions.edit(node, wish.get("text"), held, model, controls),
            "retry": lambda held: actions.retry(node, held, model, controls),
            "branch": lambda held: actions.branch(node, wish.get("index"), wish.get("id"), held, model),
            "resume": lambda held: actions.resume(node, held, model),
        }
        begin = kinds.get(wish.get("do", ""))
        return None if begin is None else lambda: begin(read_conversation(chat))

    async def _run(self, session: str, start: Callable[[], PendingReply], controls: Controls) -> AsyncIterator[list]:
        self.replies.abandon(session)
        try:
            begun = start()
        except HistoryError as problem:
            yield self._updates(PageUpdate(status=status.problem(str(problem)), running=False))
            return
        async for view in self.replies.respond(session, begun, controls):
            yield self._updates(view)

    async def _answer(
        self, wish: dict, session: str, conversation: Conversation, typed: str, controls: Controls
    ) -> list[Any]:
        """What is not a reply: a look at a token, a file, an older state."""
        node, index = wish.get("node"), wish.get("index")
        match wish.get("do"):
            case "choose":
                plot = await self.choices.plot(session, node, index, conversation, controls)
                return self._updates(PageUpdate(), plot=plot)
            case "undo":
                self.replies.abandon(session)
                before, draft = actions.undo(node, conversation, typed)
                state = status.of_engine(self.manager.engine)
                return self._updates(PageUpdate(write_conversation(before), "", state, False, draft))
            case "leave":
                self.replies.abandon(session)
                return self._updates(PageUpdate(status=status.of_engine(self.manager.engine), running=False))
            case "json":
                return self._updates(
                    PageUpdate(), file_channel=_file(conversation, "json", export.to_json(conversation))
                )
            case "markdown":
                return self._updates(
                    PageUpdate(), file_channel=_file(conversation, "md", export.to_markdown(conversation))
                )
            case "import":
                found = export.from_json(wish.get("text"))
                return self._updates(PageUpdate(), file_channel=dump({"open": json.loads(write_conversation(found))}))
        raise HistoryError(TEXT["history_form"])

    def _updates(
        self,
        view: PageUpdate,
        file_channel: str | None = None,
        plot: str | None = None,
        lens: str | None = None,
        tab: str | None = None,
    ) -> list[Any]:
        """A view as updates of `outputs`; what is None stays as it is."""
        box: dict[str, Any] = {}
        if view.draft is not None:
            box["value"] = view.draft
        if view.running is not None:
            box.update(submit_btn=not view.running, stop_btn=view.running)
        parts = [
            view.chat,
            view.stream,
            view.status,
            gr.update(**box) if box else None,
            file_channel,
            plot,
            lens,
            gr.Tabs(selected=tab) if tab else None,
        ]
        return [gr.skip() if part is None else part for part in parts]


def _file(conversation: Conversation, ending: str, text: str) -> str:
    """What the page's scripts save as a file. `time` makes each one a new value, else the second would not arrive."""
    return dump({"name": export.file_name(conversation, ending), "file": text, "time": time.time_ns()})
