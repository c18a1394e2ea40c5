"""The sidebar beside the conversation: the plot, presets, system prompt, and one slider per sampling parameter."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gradio as gr

from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.chat_template import ChatError
from web.chat import status
from web.chat.actions import Controls
from web.models.manager import Served
from web.page import presets
from web.page.html import html
from web.page.inside_panel import InsidePanel
from web.settings import Settings
from web.strings import TEXT

# Beside the word that they act on; then those that one needs now and then. The others are folded away.
BESIDE_A_WORD = ("temperature", "top_k", "top_p")
IN_SIGHT = ("min_p", "max_new_tokens")
# Both fixed: drawn anew at each start, they would make older presets unreadable (gradio#10559).
STORAGE: dict[str, Any] = {"storage_key": "glass-llama/presets", "secret": "presets are no secret"}


class ControlPanel:
    """Built inside the sidebar."""

    def __init__(self, served: Served, settings: Settings, make_inside: Callable[[], InsidePanel]):
        self.plot = html(no_plot(), elem_id="plot", js_on_load="Glass.word.mount(element, watch); // sends 'branch'")
        by_name = {name: _slider(name, served) for name in BESIDE_A_WORD}
        self.inside = make_inside()
        html(f"<h2>{TEXT['sampling']}</h2>")
        self._presets()
        self.knobs = tuple(SamplingParams.knobs())
        by_name |= {name: _slider(name, served) for name in IN_SIGHT}
        with gr.Accordion(TEXT["more"], open=False):
            by_name |= {name: _slider(name, served) for name in self.knobs if name not in by_name}
        self.sliders = [by_name[name] for name in self.knobs]
        self.stop = gr.Textbox("", label=TEXT["stop_at"], info=TEXT["stop_at_help"], lines=1, max_lines=6)
        self.seed = gr.Textbox(  # a Number shows nothing as 0
            "", label=TEXT["seed"], info=TEXT["seed_help"], elem_id="knob-seed"
        )
        self.prefill = gr.Textbox("", label=TEXT["prefill"], info=TEXT["prefill_hint"], lines=1, max_lines=4)
        self.system = gr.Textbox(
            settings.system_prompt, label=TEXT["system"], info=_system_hint(served), lines=3, max_lines=10
        )
        self.defaults = gr.State(_defaults(served))  # those of the model that the sliders last followed
        self.inputs: list[Any] = [self.system, self.prefill, self.seed, self.stop, *self.sliders]

    def _presets(self) -> None:
        self.stored = gr.BrowserState([], **STORAGE)
        self.picked = gr.Dropdown(_choices(()), value=None, label=TEXT["presets"], elem_id="preset")
        self.reset = gr.Button(TEXT["sampling_reset"], size="sm", elem_id="reset-sampling")
        with gr.Accordion(TEXT["preset_keep"], open=False):
            self.name = gr.Textbox(label=TEXT["preset_name"], max_length=presets.MAX_NAME)
            with gr.Row():
                self.save = gr.Button(TEXT["preset_save"], size="sm")
                self.delete = gr.Button(TEXT["preset_delete"], size="sm")
            self.said = html("", elem_id="preset-said")

    def read(self, values: Any) -> Controls:
        """The values of `inputs`, in that order."""
        system, prefill, seed, stop = (text or "" for text in values[:4])
        return Controls(dict(zip(self.knobs, values[4:], strict=True)), system, prefill, seed, stop)

    def follow(self, served: Served, before: dict[str, float], values: Sequence[Any]) -> list[Any]:
        """The sliders and `defaults` for the model that is served now, from those that were the model's `before` and
        the `values` of the sliders: one that the person moved stays where it is."""
        now, longest = _defaults(served), _longest(served)
        sliders: list[Any] = []
        for name, value in zip(self.knobs, values, strict=True):
            changes: dict[str, Any] = {"maximum": longest} if name == "max_new_tokens" else {}
            wanted = now[name] if value == before.get(name) else value
            if name == "max_new_tokens" and wanted and wanted > longest:
                wanted = longest
            if wanted != value:  # only then: the person may be moving it
                changes["value"] = wanted
            sliders.append(gr.Slider(**changes) if changes else gr.skip())
        return [*sliders, now]

    def system_for(self, served: Served) -> Any:
        """The box of the system prompt, with what the served model makes of it."""
        return gr.Textbox(info=_system_hint(served))

    def connect(self, page: gr.Blocks, quiet: dict) -> None:
        """Presets: taken, saved, deleted, and read once from the browser."""
        self.picked.input(self._take, [self.picked, self.stored], [self.system, self.stop, *self.sliders], **quiet)
        self.reset.click(self._reset, self.defaults, [self.picked, *self.sliders], **quiet)
        said = [self.stored, self.picked, self.said]
        self.save.click(self._save, [self.stored, self.name, *self.inputs], said, **quiet)
        self.delete.click(self._delete, [self.stored, self.picked], said, **quiet)
        page.load(lambda stored: _names(presets.read_presets(stored)), self.stored, self.picked, **quiet)

    def _take(self, name: Any, stored: Any) -> list[Any]:
        preset = {**presets.read_presets(stored), **presets.BUILT_IN}.get(name)
        if preset is None:
            return [gr.skip()] * (2 + len(self.sliders))
        values = preset.complete() | dict(preset.values)
        texts = (gr.skip() if text is None else text for text in (preset.system, preset.stop))
        return [*texts, *(values.get(knob, gr.skip()) for knob in self.knobs)]

    def _reset(self, defaults: dict[str, float]) -> list[Any]:
        return [None, *(defaults[name] for name in self.knobs)]

    def _save(self, stored: Any, name: Any, *values: Any) -> list[Any]:
        try:
            kept = presets.save(stored, name, self.read(values))
        except presets.PresetError as problem:
            return [gr.skip(), gr.skip(), status.problem(str(problem))]
        words = TEXT["preset_saved"].format(name=name.strip())
        return [presets.write_presets(kept), _names(kept, name.strip()), status.line(words)]

    def _delete(self, stored: Any, name: Any) -> list[Any]:
        try:
            kept = presets.delete(stored, name)
        except presets.PresetError as problem:
            return [gr.skip(), gr.skip(), status.problem(str(problem))]
        return [
            presets.write_presets(kept),
            _names(kept),
            status.line(TEXT["preset_deleted"].format(name=presets.title_of(name))),
        ]


def _system_hint(served: Served) -> str:
    with contextlib.suppress(ChatError):  # a template that renders nothing says so at the first question
        if not served.model.chat.accepts_system:
            return TEXT["system_merged"]
    return TEXT["system_hint"]


def _names(kept: dict[str, presets.Preset], picked: str | None = None) -> Any:
    return gr.Dropdown(choices=_choices(kept), value=picked)


def _choices(kept: Iterable[str]) -> list[tuple[str, str]]:
    return [(presets.title_of(name), name) for name in (*kept, *presets.BUILT_IN)]


def _slider(name: str, served: Served) -> gr.Slider:
    knob, label, hint = SamplingParams.knobs()[name], TEXT[f"knob_{name}"], TEXT[f"knob_{name}_help"]
    maximum = _longest(served) if name == "max_new_tokens" else knob.maximum
    return gr.Slider(
        knob.minimum, maximum, _defaults(served)[name], step=knob.step, label=label, info=hint, elem_id=f"knob-{name}"
    )


def _defaults(served: Served) -> dict[str, float]:
    values = {name: getattr(served.sampling, name) for name in SamplingParams.knobs()}
    return values | {"max_new_tokens": min(values["max_new_tokens"], _longest(served))}


def _longest(served: Served) -> int:
    return min(int(SamplingParams.knobs()["max_new_tokens"].maximum), served.engine.max_seq_len)


def no_plot() -> str:
    """Before a word was clicked."""
    return f'<h2>{TEXT["plot"]}</h2><p class="hint">{TEXT["plot_empty"]}</p>'
