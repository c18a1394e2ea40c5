"""System prompts and sampling parameters, saved by name. The browser keeps them; what it sends is never trusted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_core.errors import UserError
from llama_core.sampling.params import SamplingParams
from web.chat.actions import Controls
from web.strings import TEXT

MAX_PRESETS = 50
MAX_NAME = 60
MAX_TEXT = 20_000


class PresetError(UserError):
    """A preset that cannot be saved; one line for the person."""


@dataclass(frozen=True)
class Preset:
    """`system` and `stop` None leave what stands in those boxes; knobs not in `values` go to their defaults."""

    values: Mapping[str, float]
    system: str | None = None
    stop: str | None = None

    def complete(self) -> dict[str, float]:
        """Every knob but the length of the reply."""
        knobs = SamplingParams.knobs()
        return {name: self.values.get(name, knob.default) for name, knob in knobs.items() if name != "max_new_tokens"}


BUILT_IN = {  # named by their sentences in strings.py
    "preset_likeliest": Preset({"temperature": 0.0}),
    "preset_careful": Preset({"temperature": 0.4, "top_p": 0.9}),
    "preset_balanced": Preset({"temperature": 0.7, "min_p": 0.05}),
    "preset_wild": Preset({"temperature": 1.3, "min_p": 0.02}),
    "preset_plain": Preset({"temperature": 1.0}),
}


def title_of(name: str) -> str:
    """A preset's name as the page shows it: the person's own, or that of a built-in one."""
    return TEXT[name] if name in BUILT_IN else name


def read_presets(stored: Any) -> dict[str, Preset]:
    """The presets that a browser kept; entries that are not ones of ours are left out."""
    if not isinstance(stored, list):
        return {}
    found = {}
    for row in stored[:MAX_PRESETS]:
        texts = [row.get(name, "") for name in ("system", "stop")] if isinstance(row, dict) else [None]
        if all(map(_is_text, texts)) and _is_name(row.get("name")):
            found[row["name"]] = Preset(_read_values(row.get("values")), *texts)
    return found


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME and name not in BUILT_IN


def _is_text(text: Any) -> bool:
    return isinstance(text, str) and len(text) <= MAX_TEXT


def _read_values(values: Any) -> dict[str, float]:
    knobs = SamplingParams.knobs()
    known = {} if not isinstance(values, dict) else values
    return {
        name: type(knob.default)(known[name])
        for name, knob in knobs.items()
        if isinstance(known.get(name), (int, float)) and knob.minimum <= known[name] <= knob.maximum
    }


def write_presets(presets: Mapping[str, Preset]) -> list[dict]:
    """As the browser keeps them."""
    return [
        {"name": name, "system": preset.system, "stop": preset.stop, "values": dict(preset.values)}
        for name, preset in presets.items()
    ]


def save(stored: Any, name: Any, controls: Controls) -> dict[str, Preset]:
    """With one more preset, or another of that name. Raises `PresetError`."""
    presets, name = read_presets(stored), str(name or "").strip()[:MAX_NAME]
    if not name:
        raise PresetError(TEXT["preset_unnamed"])
    if name in BUILT_IN or name in map(title_of, BUILT_IN):
        raise PresetError(TEXT["preset_builtin"].format(name=title_of(name)))
    if len(presets) >= MAX_PRESETS and name not in presets:
        raise PresetError(TEXT["preset_full"].format(limit=MAX_PRESETS))
    kept = Preset(_read_values(dict(controls.values)), controls.system[:MAX_TEXT], controls.stop[:MAX_TEXT])
    return {**presets, name: kept}


def delete(stored: Any, name: Any) -> dict[str, Preset]:
    """Without the preset of that name. Raises `PresetError`."""
    if name in BUILT_IN:
        raise PresetError(TEXT["preset_builtin"].format(name=title_of(name)))
    return {other: preset for other, preset in read_presets(stored).items() if other != name}
