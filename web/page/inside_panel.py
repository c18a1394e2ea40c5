"""What unfolds under a word's alternatives: what each layer would have said, and where a head attended."""

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from llama_core.errors import UserError
from web.chat import status
from web.chat.actions import Controls
from web.chat.conversation import Conversation
from web.chat.replies import PageUpdate
from web.models.manager import ModelManager, Served
from web.page import under_the_hood
from web.page.html import html
from web.page.inspected import InspectedTokens, Pointer
from web.strings import TEXT


class InsidePanel:
    """Built inside the sidebar, as an accordion."""

    def __init__(self, manager: ModelManager, inspected: InspectedTokens):
        self.manager, self.inspected = manager, inspected
        config = manager.served.model.config
        with gr.Accordion(TEXT["inside"], open=False, elem_id="inside") as self.fold:
            self.lens = html(no_word(), elem_id="lens")
            with gr.Row(elem_id="head-choice"):
                self.layer = gr.Slider(1, max(2, config.num_hidden_layers), 1, step=1, label=TEXT["hood_layer"])
                self.head = gr.Slider(1, max(2, config.num_attention_heads), 1, step=1, label=TEXT["hood_head"])
            self.attention = html("", elem_id="attention")

    def connect(self, quiet: dict) -> None:
        """A look at the word that was pointed at when it unfolds, and attention when a slider moves."""
        self.fold.expand(self._unfolded, None, self.lens, **quiet)
        moved = [self.lens.change, self.layer.change, self.head.change]
        shown = [self.attention, self.layer, self.head]
        gr.on(moved, self._attention, [self.layer, self.head], shown, trigger_mode="always_last", **quiet)

    async def look(
        self, at: Pointer, conversation: Conversation, controls: Controls, served: Served
    ) -> AsyncIterator[PageUpdate]:
        """For a word that was clicked while this is unfolded: first it says that it takes a moment, then it shows the
        word's alternatives, and its lens (the attention follows it) or why there is none."""
        yield PageUpdate(lens=under_the_hood.looking(self.inspected.looks))
        try:
            yield PageUpdate(plot=await self.inspected.plot(at, conversation, controls, served))
            yield PageUpdate(lens=await self.inspected.look_inside(at.session, served))
        except UserError as problem:
            yield PageUpdate(lens=f"<p>{status.problem(str(problem))}</p>")

    async def _unfolded(self, request: gr.Request) -> AsyncIterator[str]:
        session = request.session_hash or ""
        if not self.inspected.is_pointed_at(session):
            yield no_word()
            return
        yield under_the_hood.looking(self.inspected.looks)
        try:
            yield await self.inspected.look_inside(session, self.manager.served)
        except UserError as problem:
            yield f"<p>{status.problem(str(problem))}</p>"

    def _attention(self, request: gr.Request, layer: Any, head: Any) -> list[Any]:
        config = self.manager.served.model.config
        drawn = self.inspected.attention(request.session_hash or "", layer, head)
        return [
            drawn,
            gr.Slider(maximum=max(2, config.num_hidden_layers)),
            gr.Slider(maximum=max(2, config.num_attention_heads)),
        ]


def no_word() -> str:
    """Before a word was clicked."""
    return f'<p class="hint">{TEXT["hood_none"]}</p>'
