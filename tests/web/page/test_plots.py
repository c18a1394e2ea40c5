"""The plot of what the sliders do: numbers as the sampler has them, and the cut where it falls."""

import re

import numpy as np
from scipy.special import softmax as reference

from llama_core.sampling.params import SamplingParams
from llama_core.sampling.sampler import next_token_distribution
from web.page import plots

LOGITS = np.array([3.0, 2.0, 1.0, 0.0, -1.0, -5.0], np.float32)


def table(params, label=str):
    after = np.asarray(next_token_distribution(LOGITS, params))
    return plots.distribution_table(plots.softmax(LOGITS), after, label, chosen=1)


def test_the_models_own_distribution():
    np.testing.assert_allclose(plots.softmax(LOGITS), reference(LOGITS), atol=1e-6)
    assert plots.softmax(np.array([1e4, 0.0], np.float32)).tolist() == [1.0, 0.0]


def test_the_cut_line_stands_after_the_last_token_that_can_come():
    rows = re.findall(r"<tr.*?</tr>", table(SamplingParams(temperature=1.0, top_k=2)))[1:]
    assert ["cut-line" in row for row in rows] == [False, False, True, False, False, False, False]
    assert f"2 of 6 tokens are left, {100 * reference(LOGITS)[:2].sum():.0f} % of the model" in rows[2]
    assert ['class="gone"' in row for row in rows[3:]] == [True] * 4


def test_without_a_cut_it_is_said():
    text = table(SamplingParams(temperature=1.0))
    assert "No cut: all 6 tokens can come" in text and "cut-line" not in text


def test_bars_are_as_long_as_the_numbers_beside_them():
    found = re.findall(r'width:([\d.]+)%"></i><span>([^<]+)<', table(SamplingParams(temperature=0.5)))
    for width, words in found:
        if words != "&lt;0.1 %" and words != "<0.1 %":
            assert abs(float(width) - float(words.removesuffix(" %"))) <= 0.5


def test_words_of_a_token_are_text():
    text = table(SamplingParams(), label=lambda token: "<img src=x>" if token else " a\n")
    assert "<img" not in text and "&lt;img" in text and "␣a⏎" in text
