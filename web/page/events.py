"""The handlers of the page's events: from what the browser posted to what the page shows next. Each handler reads
`manager.served` once and passes it down, so that nothing mixes two models when another one is loaded."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import gradio as gr

from llama_core.engine.request import Request
from llama_core.errors import UserError
from web.access import address_of
from web.api.clients import Clients
from web.beside import beside
from web.chat import actions, status
from web.chat.actions import Action, Controls
from web.chat.codec import read_conversation
from web.chat.conversation import Conversation, HistoryError
from web.chat.replies import SIDES, PageUpdate, ReplyManager, refused, seat_of
from web.models.catalog import GUIDE
from web.models.manager import ModelManager, Served
from web.page.controls import ControlPanel, no_plot
from web.page.inside_panel import InsidePanel, no_word
from web.page.inspected import InspectedTokens, Pointer


class PageEvents:
    """What is done with the conversation. `panel` and `inside` are parts of the page."""

    def __init__(
        self,
        manager: ModelManager,
        inspected: InspectedTokens,
        panel: ControlPanel,
        inside: InsidePanel,
        clients: Clients,
    ):
        self.manager, self.inspected, self.panel, self.inside = manager, inspected, panel, inside
        self.clients, self.replies = clients, ReplyManager()

    def closed(self, request: gr.Request) -> None:
        """The tab was closed."""
        session = _session(request)
        for seat in self.replies.of_tab(session):
            self.replies.abandon(seat)
        self.inspected.forget(session)

    def stop(self, request: gr.Request, chat: Any) -> None:
        """The Stop button, in the conversation with the id `chat`."""
        for side in SIDES:
            self.replies.stop(seat_of(_session(request), str(chat), side))

    def tune(self, request: gr.Request, chat: Any, *values: Any) -> Any:
        """A slider was moved beside the conversation with the id `chat`: its running reply goes on with it (two side
        by side have settings of their own), and the plot is drawn anew."""
        controls = self.panel.read(values)
        self.replies.update(seat_of(_session(request), str(chat)), controls)
        plot = self.inspected.redraw(_session(request), controls)
        return gr.skip() if plot is None else plot

    def opened(self, request: gr.Request) -> list[Any]:
        """Another conversation is shown: no token of it is pointed at, and nothing is inside it."""
        self.inspected.forget(_session(request))
        return [no_plot(), no_word(), gr.Accordion(open=False)]

    async def submit(self, request: gr.Request, text: str, chat: Any, *values: Any) -> AsyncIterator[list[Any]]:
        """The Send button, and Enter in the box."""
        async for update in self._run(request, Action("ask", text=text or ""), chat, self.panel.read(values)):
            yield update

    async def act(
        self, request: gr.Request, event: gr.EventData, typed: str, chat: Any, *values: Any
    ) -> AsyncIterator[list[Any]]:
        """An action of the page's own scripts (`Action`)."""
        try:
            action = actions.read_action(event._data)
        except HistoryError as problem:
            yield outputs(PageUpdate(status=status.problem(str(problem))))
            return
        handle = self._run if action.begins_reply else self._answer
        async for update in handle(request, action, chat, action.adjust(self.panel.read(values))):
            yield update

    async def _run(
        self, request: gr.Request, action: Action, chat: Any, controls: Controls
    ) -> AsyncIterator[list[Any]]:
        """Begin a reply and stream it, within what the client may have."""
        served, conversation, who = self.manager.served, Conversation(), _client(request)
        session = _session(request)
        with ExitStack() as ends:
            try:
                conversation = await beside(_read, chat, served)
                ends.enter_context(self.clients.limits.turn(who))
                pending = await beside(actions.begin_reply, action, conversation, served.model, controls)
            except UserError as problem:
                yield outputs(refused(conversation.request, problem))
                return
            for side in {"", action.side} if action.side else SIDES:  # the other side goes on
                self.replies.abandon(seat_of(session, conversation.id, side))
            seat = seat_of(session, conversation.id, action.side)

            def count(reply: Request) -> None:
                self.clients.count(who, reply.prompt_tokens + len(reply.token_ids), [reply])

            async for update in self.replies.respond(seat, pending, controls, served, count):
                yield outputs(update, conversation, action.side)

    async def _answer(
        self, request: gr.Request, action: Action, chat: Any, controls: Controls
    ) -> AsyncIterator[list[Any]]:
        """What is not a reply: a look at a token."""
        served, at = self.manager.served, Pointer(_session(request), action.node, action.index)
        try:
            conversation = await beside(_read, chat, served)
            match action.do:
                case "inspect":
                    async for update in self.inside.look(at, conversation, controls, served):
                        yield outputs(update)
                case _:
                    yield outputs(PageUpdate(plot=await self.inspected.plot(at, conversation, controls, served)))
        except UserError as problem:
            yield outputs(PageUpdate(status=status.problem(str(problem))))


def outputs(update: PageUpdate, about: Conversation | None = None, side: str = "") -> list[Any]:
    """The values of `Page.outputs`; what is None stays as it is. The status is `about` this conversation and its
    request."""
    line = update.status
    if line is not None and about:
        line = f'<div data-chat="{about.id}" data-request="{about.request}">{line}</div>'
    streams = [None, update.stream] if side == "right" else [update.stream, None]
    parts = [update.chat, *streams, line, update.plot, update.lens]
    return [gr.skip() if part is None else part for part in parts]


def _session(request: gr.Request) -> str:
    """The browser tab."""
    return request.session_hash or ""


def _client(request: gr.Request) -> str:
    """Whose limits count: those of a name at the login, or else of an address."""
    return request.username or address_of(request.client)


def _read(chat: Any, served: Served) -> Conversation:
    """The posted conversation. A reply by "guide" from before models had ids was written by the guide."""
    return read_conversation(chat, {GUIDE.name: served.model.id} if served.is_guide else {})
