"""Presets: saved by name, read without trust."""

import json

import pytest

from llama_core.sampling.params import SamplingParams
from web.chat.actions import Controls
from web.page import presets

KNOBS = {name: knob.default for name, knob in SamplingParams.knobs().items()}


def test_a_saved_preset_survives_the_browser():
    kept = presets.save([], " Mine ", Controls({**KNOBS, "temperature": 1.5}, "Be brief", stop="The end"))
    stored = json.loads(json.dumps(presets.write_presets(kept)))
    found = presets.read_presets(stored)["Mine"]
    assert (found.system, found.stop, found.values["temperature"]) == ("Be brief", "The end", 1.5)
    assert presets.delete(stored, "Mine") == {}


def test_names_are_checked():
    for name in ("", "  ", None):
        with pytest.raises(presets.PresetError, match="Write a name"):
            presets.save([], name, Controls(KNOBS))
    for act in (lambda: presets.save([], "Careful", Controls(KNOBS)), lambda: presets.delete([], "preset_careful")):
        with pytest.raises(presets.PresetError, match="comes with the page"):
            act()
    full = [{"name": f"n{i}", "values": {}} for i in range(presets.MAX_PRESETS)]
    with pytest.raises(presets.PresetError, match="already"):
        presets.save(full, "one more", Controls(KNOBS))


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "text",
        {},
        [1],
        [{"name": 3}],
        [{"name": "x" * 100}],
        [{"name": "a", "system": 3}],
        [{"name": "a", "stop": ["x"]}],
        [{"name": "preset_careful"}],
    ],
)
def test_strange_entries_are_left_out(stored):
    assert presets.read_presets(stored) == {}


def test_values_out_of_range_are_left_out():
    found = presets.read_presets([{"name": "a", "values": {"temperature": 99, "top_k": 7.0, "nonsense": 1}}])["a"]
    assert found.values == {"top_k": 7}


def test_every_built_in_preset_can_be_sampled_with():
    for preset in presets.BUILT_IN.values():
        SamplingParams(**preset.complete())
