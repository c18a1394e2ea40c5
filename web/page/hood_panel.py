"""The tab "Under the hood": what under_the_hood.py draws, and when."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from llama_core.model.lens import InspectionError
from llama_core.tokenizer.chat_template import ChatError
from web.chat import status
from web.chat.actions import Controls
from web.chat.conversation import Conversation, HistoryError
from web.models.manager import ModelManager
from web.page import under_the_hood
from web.page.html import html
from web.page.inspected import InspectedTokens
from web.strings import TEXT


class HoodPanel:
    """Built inside the tab."""

    def __init__(self, manager: ModelManager, choices: InspectedTokens):
        self.manager, self.choices = manager, choices
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
        model, config = self.manager.model, self.manager.model.config
        return [
            under_the_hood.picture(config),
            under_the_hood.numbers(model, self.manager.plan(), self.manager.stats()),
            gr.Slider(maximum=config.num_hidden_layers),
            gr.Slider(maximum=config.num_attention_heads),
        ]

    async def look(
        self, session: str, wish: dict, conversation: Conversation, controls: Controls
    ) -> AsyncIterator[tuple[str, str | None]]:
        """What stands in place of the lens and the tab to be opened: first that it takes a moment, then the lens of the
        token `wish` (the attention follows it) or why there is none."""
        yield under_the_hood.looking(), "hood"
        place = session, wish.get("node"), wish.get("index")
        try:
            yield await asyncio.to_thread(self.choices.look_inside, *place, conversation, controls), None
        except (HistoryError, InspectionError, ChatError) as problem:
            yield f"<p>{status.problem(str(problem))}</p>", None

    def _attention(self, request: gr.Request, layer: Any, head: Any) -> Any:
        return self.choices.attention(request.session_hash, layer, head)
