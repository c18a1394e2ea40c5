"""The tokens that people point at: the logits for the plot, and what happened inside the model for the lens. One per
browser tab; those of the tabs that pointed longest ago are forgotten."""

import asyncio
import math
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from llama_core.errors import UserError
from llama_core.model.lens import Inside, InspectionError, inspect
from llama_core.sampling.sampler import next_token_distribution
from web.beside import beside
from web.chat.actions import Controls, own_node, sampling_params
from web.chat.conversation import Conversation
from web.chat.prompt import Prompt, prompt_for
from web.chat.stream import Labels
from web.models.manager import Served
from web.page import plots, under_the_hood
from web.strings import TEXT

MAX_TABS = 64
# What they hold together. The attention of one token in a model of a billion parameters is up to 4 MB.
MAX_BYTES = 64_000_000
BYTES_PER_ID = 40  # an integer of Python's in a list
MAX_LOOKS = 16  # looks inside that may wait


@dataclass(frozen=True)
class Pointer:
    """Token `index` of the reply `number`, in the browser tab `session`."""

    session: str
    number: int
    index: int


@dataclass
class InspectedToken:
    """A position: the prompt up to it and the token that came there."""

    prompt: Prompt
    token_id: int
    labels: Labels
    index: int
    model_id: str
    logits: np.ndarray | None = None
    inside: Inside | None = None

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        logits = 0 if self.logits is None else self.logits.nbytes
        attention = 0 if self.inside is None else self.inside.attention.nbytes
        return BYTES_PER_ID * len(self.prompt.ids) + logits + attention


class InspectedTokens:
    """What the tabs point at. Used by the event loop and by worker threads."""

    def __init__(self) -> None:
        self._tabs: OrderedDict[str, InspectedToken] = OrderedDict()
        self._lock = threading.Lock()
        # One look at a time, so that the memory plan needs to count one. Also when a tab was closed in the middle: its
        # look goes on to its end.
        self._looking = ThreadPoolExecutor(1, "look inside")
        self.looks = 0

    def point(self, at: Pointer, conversation: Conversation, controls: Controls, served: Served) -> InspectedToken:
        """Raises `HistoryError` for a token that this model has not written."""
        node = own_node(at.number, at.index, conversation, served.model)
        length = sampling_params(controls).max_new_tokens
        prompt = prompt_for(conversation, at.number, at.index, served.model, served.engine.max_seq_len, length)
        known, model = self._tabs.get(at.session), served.model
        token_id = node.records[at.index].id
        token = InspectedToken(prompt, token_id, Labels(model.tokenizer), at.index, model.id)
        if known and (known.model_id, list(known.prompt.ids)) == (model.id, list(prompt.ids)):
            # The same position: what the model made of it is the same, whichever token came.
            token.logits, token.inside = known.logits, known.inside
        with self._lock:
            self._tabs[at.session] = token
            self._tabs.move_to_end(at.session)
        self._make_room()
        return token

    def _make_room(self) -> None:
        """Forget the tabs that pointed longest ago, never the last one. Called when something was added."""
        with self._lock:
            held = sum(token.size for token in self._tabs.values())
            while len(self._tabs) > 1 and (len(self._tabs) > MAX_TABS or held > MAX_BYTES):
                _, oldest = self._tabs.popitem(last=False)
                held -= oldest.size

    def forget(self, session: str) -> None:
        """The tab was closed."""
        with self._lock:
            self._tabs.pop(session, None)

    async def plot(self, at: Pointer, conversation: Conversation, controls: Controls, served: Served) -> str:
        """Point at a token and draw what could have come. Raises what `point` and the engine do."""
        token = await beside(self.point, at, conversation, controls, served)
        if token.logits is None:
            prompt = token.prompt
            logits = await served.engine.next_token_logits_async(prompt.ids, prompt.cache_scope)
            token.logits = np.asarray(logits, np.float32)
            self._make_room()
        return await asyncio.to_thread(self.redraw, at.session, controls) or ""

    def redraw(self, session: str, controls: Controls) -> str | None:
        """The plot after the sliders moved, from the kept logits; None if there are none or a control is half-typed."""
        token = self._tabs.get(session)
        if token is None or token.logits is None:
            return None
        try:
            params = sampling_params(controls)
        except UserError:
            return None
        own = plots.softmax(token.logits)
        after = next_token_distribution(token.logits, params, token.prompt.ids, token.prompt.prompt_tokens)
        return plots.distribution_list(own, np.asarray(after), token.labels.of, token.token_id, token.index)

    def is_pointed_at(self, session: str) -> bool:
        """Whether a token of this tab is."""
        return session in self._tabs

    async def look_inside(self, session: str, served: Served) -> str:
        """Draw the lens of the token that the tab points at. Takes a moment: everything is computed again without a
        cache, one look after the other; `looks` counts those that are not done. Raises `InspectionError`."""
        if self.looks > MAX_LOOKS:
            raise InspectionError(TEXT["hood_full"])
        self.looks += 1
        try:
            look = partial(copy_context().run, self._look_inside, session, served)  # in the language of who looks
            return await asyncio.get_running_loop().run_in_executor(self._looking, look)
        finally:
            self.looks -= 1

    def _look_inside(self, session: str, served: Served) -> str:
        token, model = self._tabs.get(session), served.model
        if token is None or token.model_id != model.id:
            raise InspectionError(TEXT["hood_gone"])
        if token.inside is None:
            inside = inspect(model.params, model.config, token.prompt.ids, model.drawable)
            token.inside = replace(inside, attention=inside.attention.astype(np.float16))
            self._make_room()
        return under_the_hood.lens(token.inside, token.labels.of)

    def attention(self, session: str, layer: float, head: float) -> str:
        """Where a head attended; layer and head are counted from 1. Nothing without a token."""
        token = self._tabs.get(session)
        if token is None or token.inside is None:
            return ""
        layers, heads, _ = token.inside.attention.shape
        row, column = _clip(layer, layers), _clip(head, heads)
        words = [token.labels.of(token_id) for token_id in token.prompt.ids]
        weights = token.inside.attention[row, column]
        return under_the_hood.attention(weights, words, row, column, token.labels.of(token.token_id))


def _clip(value: float, most: int) -> int:
    """A posted number from 1 to `most` as an index."""
    return int(min(max(value, 1), most)) - 1 if isinstance(value, (int, float)) and not math.isnan(value) else 0
