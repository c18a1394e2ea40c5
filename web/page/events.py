"""The handlers of the page's events: from what the browser posted to what the page shows next. Each handler reads
`manager.served` once and passes it down, so that nothing mixes two models when another one is loaded."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from llama_core.errors import UserError
from web.chat import actions, export, status
from web.chat.actions import Action, Controls
from web.chat.codec import dump, read_conversation, write_conversation
from web.chat.conversation import Conversation, HistoryError
from web.chat.replies import PageUpdate, ReplyManager
from web.models.catalog import GUIDE
from web.models.manager import ModelManager, Served
from web.page.controls import ControlPanel
from web.page.inside_panel import InsidePanel
from web.page.inspected import InspectedTokens, Pointer
from web.strings import TEXT


class PageEvents:
    """What is done with the conversation. `panel` and `inside` are parts of the page."""

    def __init__(self, manager: ModelManager, inspected: InspectedTokens, panel: ControlPanel, inside: InsidePanel):
        self.manager, self.inspected, self.panel, self.inside = manager, inspected, panel, inside
        self.replies = ReplyManager()

    def closed(self, request: gr.Request) -> None:
        """The tab was closed."""
        self.replies.abandon(_session(request))
        self.inspected.forget(_session(request))

    def stop(self, request: gr.Request) -> list[Any]:
        """The Stop button."""
        return outputs(self.replies.stop(_session(request)))

    def tune(self, request: gr.Request, *values: Any) -> Any:
        """A slider was moved: the running reply goes on with it, and the plot is drawn anew."""
        controls = self.panel.read(values)
        self.replies.update(_session(request), controls)
        plot = self.inspected.redraw(_session(request), controls)
        return gr.skip() if plot is None else plot

    def opened(self, request: gr.Request) -> list[Any]:
        """Another conversation is shown: no token of it is pointed at, and nothing is inside it."""
        self.inspected.forget(_session(request))
        return [self.panel.plot.value, self.inside.lens.value, gr.Accordion(open=False)]

    async def submit(self, request: gr.Request, text: str, chat: Any, *values: Any) -> AsyncIterator[list[Any]]:
        """The Send button, and Enter in the box."""
        if self.replies.is_busy(_session(request)):  # Enter while a reply is written: the words stay in the box
            yield outputs(PageUpdate())
            return
        async for update in self._run(_session(request), Action("ask", text=text or ""), chat, self.panel.read(values)):
            yield outputs(update)

    async def act(
        self, request: gr.Request, event: gr.EventData, typed: str, chat: Any, *values: Any
    ) -> AsyncIterator[list[Any]]:
        """An action of the page's own scripts (`Action`)."""
        session, controls = _session(request), self.panel.read(values)
        try:
            action = actions.read_action(event._data)
        except HistoryError as problem:
            yield outputs(PageUpdate(status=status.problem(str(problem))))
            return
        handle = self._run if action.begins_reply else self._answer
        async for update in handle(session, action, chat, controls, typed):
            yield outputs(update)

    async def _run(
        self, session: str, action: Action, chat: Any, controls: Controls, typed: str = ""
    ) -> AsyncIterator[PageUpdate]:
        """Begin a reply and stream it."""
        served = self.manager.served
        self.replies.abandon(session)
        try:
            # In a thread, like all that takes time for a long chat: words are streamed on this event loop.
            pending = await asyncio.to_thread(
                lambda: actions.begin_reply(action, _read(chat, served), served.model, controls)
            )
        except UserError as problem:
            yield PageUpdate(status=status.problem(str(problem)), running=False)
            return
        async for update in self.replies.respond(session, pending, controls, served):
            yield update

    async def _answer(
        self, session: str, action: Action, chat: Any, controls: Controls, typed: str
    ) -> AsyncIterator[PageUpdate]:
        """What is not a reply: a look at a token, a file, an older state."""
        served, at = self.manager.served, Pointer(session, action.node, action.index)
        try:
            conversation = await asyncio.to_thread(_read, chat, served)
            match action.do:
                case "inspect":
                    async for update in self.inside.look(at, conversation, controls, served):
                        yield update
                case "choose":
                    yield PageUpdate(plot=await self.inspected.plot(at, conversation, controls, served))
                case _:
                    yield await asyncio.to_thread(self._change, session, action, conversation, typed, served)
        except UserError as problem:
            yield PageUpdate(status=status.problem(str(problem)))

    def _change(
        self, session: str, action: Action, conversation: Conversation, typed: str, served: Served
    ) -> PageUpdate:
        match action.do:
            case "undo":
                self.replies.abandon(session)
                before, draft = actions.undo(action.node, conversation, typed)
                return PageUpdate(write_conversation(before), "", status.of_engine(served.engine), False, draft)
            case "leave":
                self.replies.abandon(session)
                return PageUpdate(status=status.of_engine(served.engine), running=False)
            case _:
                return PageUpdate(file=_file(action, conversation))


def outputs(update: PageUpdate) -> list[Any]:
    """The values of `Page.outputs`; what is None stays as it is."""
    box: dict[str, Any] = {}
    if update.draft is not None:
        box["value"] = update.draft
    if update.running is not None:
        box.update(submit_btn=not update.running, stop_btn=update.running)
    parts = [
        update.chat,
        update.stream,
        update.status,
        gr.update(**box) if box else None,
        update.file,
        update.plot,
        update.lens,
        gr.Accordion(open=True) if update.tab else None,
    ]
    return [gr.skip() if part is None else part for part in parts]


def _session(request: gr.Request) -> str:
    """The browser tab."""
    return request.session_hash or ""


def _read(chat: Any, served: Served) -> Conversation:
    """The posted conversation. A reply by "guide" from before models had ids was written by the guide."""
    return read_conversation(chat, {GUIDE.name: served.model.id} if served.is_guide else {})


def _file(action: Action, conversation: Conversation) -> str:
    """For the page's scripts: a file to be saved, or a conversation to be opened."""
    if action.do == "import":
        return f'{{"open":{write_conversation(export.from_json(action.text))}}}'
    if action.do == "json":
        ending, text = "json", export.to_json(conversation)
    elif action.do == "markdown":
        ending, text = "md", export.to_markdown(conversation)
    else:
        raise HistoryError(TEXT["history_form"])
    # `time` makes each one a new value, else the second would not arrive.
    return dump({"name": export.file_name(conversation, ending), "file": text, "time": time.time_ns()})
