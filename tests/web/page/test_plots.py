"""The alternatives of a word: numbers as the sampler has them, and the cut where it falls."""

import re

import numpy as np
import pytest
from scipy.special import softmax as reference
from scipy.stats import entropy

from llama_core.sampling.params import SamplingParams
from llama_core.sampling.sampler import next_token_distribution
from web.page import plots

LOGITS = np.array([3.0, 2.0, 1.0, 0.0, -1.0, -5.0], np.float32)


def listed(params, label=str, logits=LOGITS, chosen=1):
    after = np.asarray(next_token_distribution(logits, params))
    return plots.distribution_list(plots.softmax(logits), after, label, chosen, index=7)


def test_the_models_own_distribution():
    np.testing.assert_allclose(plots.softmax(LOGITS), reference(LOGITS), atol=1e-6)
    assert plots.softmax(np.array([1e4, 0.0], np.float32)).tolist() == [1.0, 0.0]


def test_the_cut_line_stands_after_the_last_token_that_can_come():
    rows = re.findall(r"<li.*?</li>", listed(SamplingParams(temperature=1.0, top_k=2)))
    assert ["cut-line" in row for row in rows] == [False, False, True, False, False, False, False]
    assert f"2 of 6 tokens are left, {100 * reference(LOGITS)[:2].sum():.0f} % of the raw" in rows[2]
    assert ['class="gone"' in row and "→ cut" in row for row in rows[3:]] == [True] * 4


def test_what_is_unlikely_is_not_called_cut():
    """A share that rounds to nothing is still one: temperature 0.5 makes 0.0003 of 0.01 and cuts nothing."""
    text = listed(SamplingParams(temperature=0.2))
    assert "No cut: all 6 tokens are possible" in text and "cut-line" not in text
    assert "→ cut" not in text and "→ &lt;0.1 %" in text.replace("<0.1", "&lt;0.1")


def test_bars_are_as_long_as_the_numbers_beside_them():
    text = listed(SamplingParams(temperature=0.5))
    for kind, at in (("own", 0), ("after", 1)):
        widths = re.findall(rf'class="{kind}" style="width:([\d.]+)%', text)
        numbers = [shares.split(" → ")[at] for shares in re.findall(r'class="shares">([^<]*(?:<0.1 %)?[^<]*)</', text)]
        assert len(widths) == len(numbers) == 6
        for width, words in zip(widths, numbers, strict=True):
            number = words.replace("&lt;", "<").removesuffix(" %")
            longest = float(reference(LOGITS / 0.5).max())
            assert number == "<0.1" or abs(float(width) * longest - float(number)) <= 0.5


def test_the_chosen_token_is_listed_however_unlikely_and_each_row_leads_to_its_branch():
    logits = np.arange(50, dtype=np.float32)[::-1] / 4
    text = listed(SamplingParams(), logits=logits, chosen=49)
    assert re.findall(r'data-id="(\d+)"', text) == [*map(str, range(8)), "49"]
    assert re.findall(r'data-id="(\d+)" aria-current', text) == ["49"]
    assert 'data-index="7"' in text


def test_real_choices_are_the_perplexity():
    assert plots.real_choices(np.array([0.25] * 4 + [0.0])) == pytest.approx(4)
    assert plots.real_choices(plots.softmax(LOGITS)) == pytest.approx(np.exp(entropy(reference(LOGITS))), rel=1e-6)
    assert "Nearly certain" in listed(SamplingParams(), logits=LOGITS * 10)
    words = listed(SamplingParams(temperature=1.0, top_k=1), logits=np.linspace(0.05, 0, 6, dtype=np.float32))
    assert "About 6 real choices. After sampling: 1." in words


def test_words_of_a_token_are_text():
    text = listed(SamplingParams(), label=lambda token: "<img src=x>" if token else " a\n")
    assert "<img" not in text and "&lt;img" in text and "␣a⏎" in text
