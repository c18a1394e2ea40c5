"""The token that a person points at: its logits for the plot, and what happened inside for the lens. One a browser tab;
of the tabs that pointed longest ago they are forgotten."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from llama_core.model.lens import Inside, inspect
from llama_core.sampling.sampler import next_token_distribution
from web.chat.actions import Controls, Prompt, own_node, prompt_for, sampling_params
from web.chat.conversation import Conversation
from web.chat.stream import Labels
from web.page import plots, under_the_hood

TABS = 64


@dataclass
class InspectedToken:
    """A position: the prompt up to it and the token that came there."""

    prompt: Prompt
    token_id: int
    labels: Labels
    logits: np.ndarray | None = None
    own: np.ndarray | None = None
    inside: Inside | None = None


class InspectedTokens:
    """What the tabs (`session`) point at."""

    def __init__(self, manager: Any):
        self._host = manager
        self._tabs: OrderedDict[str, InspectedToken] = OrderedDict()

    def point(
        self, session: str, number: Any, index: Any, conversation: Conversation, controls: Controls
    ) -> InspectedToken:
        """Token `index` of the reply `number`. Raises `HistoryError` if this model has not written it."""
        model = self._host.model
        node = own_node(number, index, conversation, model)
        prompt = prompt_for(
            conversation, number, index, model, self._host.engine.max_seq_len, sampling_params(controls).max_new_tokens
        )
        chosen = InspectedToken(prompt, node.records[index].id, Labels(model.tokenizer))
        self._tabs[session] = chosen
        self._tabs.move_to_end(session)
        while len(self._tabs) > TABS:
            self._tabs.popitem(last=False)
        return chosen

    def forget(self, session: str) -> None:
        """The tab was closed."""
        self._tabs.pop(session, None)

    async def plot(self, session: str, number: Any, index: Any, conversation: Conversation, controls: Controls) -> str:
        """Point at a token and draw what could have come. Raises what `point` and the engine do."""
        chosen = self.point(session, number, index, conversation, controls)
        chosen.logits = np.asarray(await self._host.engine.next_token_logits_async(chosen.prompt.ids), np.float32)
        chosen.own = plots.softmax(chosen.logits)
        return self.redraw(session, controls) or ""

    def redraw(self, session: str, controls: Controls) -> str | None:
        """The plot after the sliders moved, from the kept logits; None if there are none or a control is half-typed."""
        chosen = self._tabs.get(session)
        if chosen is None or chosen.logits is None:
            return None
        try:
            params = sampling_params(controls)
        except ValueError:
            return None
        after = next_token_distribution(chosen.logits, params, chosen.prompt.ids, chosen.prompt.prompt_tokens)
        return plots.distribution_table(chosen.own, np.asarray(after), chosen.labels.of, chosen.token_id)

    def look_inside(self, session: str, number: Any, index: Any, conversation: Conversation, controls: Controls) -> str:
        """Point at a token and draw the lens. Takes a moment: all is read again without a cache. Raises what `point`
        does, and `InspectionError`."""
        chosen = self.point(session, number, index, conversation, controls)
        model = self._host.model
        chosen.inside = inspect(model.params, model.config, chosen.prompt.ids)
        return under_the_hood.lens(chosen.inside, chosen.labels.of)

    def attention(self, session: str, layer: Any, head: Any) -> str:
        """Where a head (counted from 1) looked; nothing without a token."""
        chosen = self._tabs.get(session)
        if chosen is None or chosen.inside is None:
            return ""
        layers, heads, _ = chosen.inside.attention.shape
        layer, head = (min(max(int(value or 1), 1), most) - 1 for value, most in ((layer, layers), (head, heads)))
        words = [chosen.labels.of(token_id) for token_id in chosen.prompt.ids]
        return under_the_hood.attention(
            chosen.inside.attention[layer, head], words, layer, head, chosen.labels.of(chosen.token_id)
        )
