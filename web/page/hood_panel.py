"""The tab "Under the hood": what under_the_hood.py draws of the model itself, and when."""

from typing import Any

import gradio as gr

from web.models.manager import ModelManager
from web.page import under_the_hood
from web.page.html import html
from web.strings import TEXT


class HoodPanel:
    """Built inside the tab."""

    def __init__(self, manager: ModelManager):
        self.manager = manager
        html(f"<h2>{TEXT['hood_shape']}</h2>")
        self.picture = html("", elem_id="picture")
        self.numbers = html("", elem_id="numbers")
        self.refresh = gr.Button(TEXT["hood_refresh"], size="sm")
        html(under_the_hood.code_links(), elem_id="code-links")

    def connect(self, tab: gr.Tab, quiet: dict) -> None:
        """Facts when the tab is opened."""
        tab.select(self.facts, None, [self.picture, self.numbers], **quiet)
        self.refresh.click(self.facts, None, [self.picture, self.numbers], **quiet)

    def facts(self) -> list[Any]:
        """The picture and the numbers."""
        served = self.manager.served
        return [
            under_the_hood.picture(served.model.config),
            under_the_hood.numbers(served.model, served.plan, served.engine.stats()),
        ]
