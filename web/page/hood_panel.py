"""The tab "Under the hood": what under_the_hood.py draws, and when."""

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


class HoodPanel:
    """Built inside the tab."""

    def __init__(self, manager: ModelManager, inspected: InspectedTokens):
        self.manager, self.inspected = manager, inspected
        html(f"<h2>{TEXT['hood_token']}</h2>")
        self.lens = html(f'<p class="hint">{TEXT["hood_none"]}</p>', elem_id="lens")
        with gr.Row(elem_id="head-choice"):
            self.layer = gr.Slider(1, 2, 1, step=1, label=TEXT["hood_layer"])
            self.head = gr.Slider(1, 2, 1, step=1, label=TEXT["hood_head"])
        self.attention = html("", elem_id="attention")
        html(f"<h2>{TEXT['hood_shape']}</h2>")
        self.picture = html("", elem_id="picture")
        self.numbers = html("", elem_id="numbers")
        self.refresh = gr.Button(TEXT["hood_refresh"], size="sm")
        html(under_the_hood.code_links(), elem_id="code-links")

    @property
    def shown(self) -> list[gr.components.Component]:
        """What changes with the model."""
        return [self.picture, self.numbers, self.layer, self.head]

    def connect(self, tab: gr.Tab, quiet: dict) -> None:
        """Facts when the tab is opened, and attention when a slider moves."""
        tab.select(self.facts, None, self.shown, **quiet)
        self.refresh.click(self.facts, None, self.shown, **quiet)
        moved = [self.lens.change, self.layer.change, self.head.change]
        gr.on(moved, self._attention, [self.layer, self.head], self.attention, trigger_mode="always_last", **quiet)

    def facts(self) -> list[Any]:
        """The picture, the numbers, and how far the sliders go."""
        served = self.manager.served
        config = served.model.config
        return [
            under_the_hood.picture(config),
            under_the_hood.numbers(served.model, served.plan, served.engine.stats()),
            gr.Slider(maximum=config.num_hidden_layers),
            gr.Slider(maximum=config.num_attention_heads),
        ]

    async def look(
        self, at: Pointer, conversation: Conversation, controls: Controls, served: Served
    ) -> AsyncIterator[PageUpdate]:
        """Opens the tab: first it says that it takes a moment, then it shows the lens of the token (the attention
        follows it) or why there is none."""
        yield PageUpdate(lens=under_the_hood.looking(self.inspected.looks), tab="hood")
        try:
            lens = await self.inspected.look_inside(at, conversation, controls, served)
        except UserError as problem:
            lens = f"<p>{status.problem(str(problem))}</p>"
        yield PageUpdate(lens=lens)

    def _attention(self, request: gr.Request, layer: Any, head: Any) -> str:
        return self.inspected.attention(request.session_hash or "", layer, head)
