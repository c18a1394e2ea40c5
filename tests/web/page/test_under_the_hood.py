"""Under the hood: facts from the model's own configuration, links that lead to the right lines, words that are text."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from llama_core.checkpoint.estimate import estimate
from llama_core.checkpoint.memory_plan import Plan
from llama_core.model.config import NAMED_CONFIGS
from llama_core.model.lens import Inside
from llama_core.model.llama import init_cache
from llama_core.model.params import count_params
from llama_core.sampling.params import SamplingParams
from web.page import under_the_hood
from web.page.knob_code import KNOB_CODE, code_of
from web.source import source_page

ROOT = Path(__file__).parents[3]
TINY = NAMED_CONFIGS["tiny"]


@pytest.mark.parametrize("name", list(NAMED_CONFIGS))
def test_the_picture_shows_every_layer_and_head(name):
    config = NAMED_CONFIGS[name]
    picture = under_the_hood.picture(config)
    assert picture.count('class="layer"') == min(config.num_hidden_layers, under_the_hood.MOST_LAYERS_DRAWN)
    assert picture.count('y="304"') == config.num_attention_heads
    assert f"{config.vocab_size:,} words" in picture and f"Block × {config.num_hidden_layers}" in picture


def test_the_cache_is_as_large_as_the_engine_makes_it():
    cache = init_cache(TINY, batch=3, length=50)
    plan = Plan(TINY, "float32", 3, 50)
    assert plan.cache == sum(array.nbytes for array in (*cache.keys, *cache.values))


def test_the_numbers_are_those_of_the_model():
    stored = "Q4_1 and Q8_0, 5.7 bits a weight"
    facts = dict(weights="q8, 8.5 bits a weight", stored=stored, parameter_count=count_params(TINY))
    model = SimpleNamespace(config=TINY, **facts)
    stats = SimpleNamespace(slots=2, context_used=64, context_size=512, attention="cudnn")
    plan = estimate("random:tiny", "float32", 2, 256).plan
    text = under_the_hood.numbers(model, plan, stats)
    assert f"{count_params(TINY):,}" in text and "64 of 512 tokens" in text
    assert "q8, 8.5 bits a weight" in text and stored in text
    noise = SimpleNamespace(config=TINY, **{**facts, "stored": ""})
    assert "on disk" in text and "on disk" not in under_the_hood.numbers(noise, plan, stats)
    assert f"{plan.cache / 8 / 1e3:.1f} KB" in text


@pytest.mark.parametrize("knob", list(SamplingParams.knobs()))
def test_each_control_leads_to_the_lines_that_compute_it(knob):
    path, line = code_of(knob)
    text = (ROOT / path).read_text().splitlines()[line - 1]
    assert knob in text and "_knob(" not in text and "np.array" not in text
    assert f'id="L{line}"' in source_page(path)
    assert f"./source/{path}#L{line}" in under_the_hood.code_links()


def test_the_table_of_code_has_every_control_and_no_other():
    assert set(KNOB_CODE) == set(SamplingParams.knobs())


def test_a_function_that_is_gone_or_says_nothing_of_the_control_is_named(monkeypatch):
    for function in ("no_such_function", "draw"):
        monkeypatch.setitem(KNOB_CODE, "top_k", ("llama_core/sampling/sampler.py", function))
        with pytest.raises(LookupError, match=f"no function {function} that mentions top_k"):
            code_of("top_k")


@pytest.mark.parametrize("name", ["../app.py", "web/settings.py", "llama_core/../web/page.py", "", "llama_core/x.py"])
def test_no_other_file_is_shown(name):
    assert source_page(name) is None


def test_words_in_the_lens_are_text():
    inside = Inside(np.zeros((2, 2), int), np.array([[0.5, 0.1], [0.9, 0.0]]), np.full((2, 1, 2), 0.5))
    text = under_the_hood.lens(inside, lambda token: "<b>")
    assert "<b>" not in text and text.index(">2</th>") < text.rindex(">1</th>")  # the last layer on top
    text = under_the_hood.attention(np.array([0.75, 0.25]), ["<i>", "x"], 0, 0, "<u>")
    assert "<i>" not in text and "<u>" not in text and "75 %" in text
    assert re.search(r"--share:1\.000[^>]*>&lt;i&gt;", text)
