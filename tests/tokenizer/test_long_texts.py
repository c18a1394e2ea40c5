"""What tiktoken gets at once of a long text, with small limits in the place of 25 000 and 400 000."""

import itertools
import re
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from llama_core.tokenizer import tiktoken_ranks

LIMITS = {"MAX_RUN": 5, "MAX_TEXT": 17, "_LONG_RUN": re.compile(r"\S{1,5}|\s{1,5}")}
RUN = re.compile(r"\S+|\s+")


@given(st.lists(st.sampled_from(["a", "bb", " ", "\n ", "c" * 4, " " * 5, "d" * 12, " " * 13]), max_size=12))
def test_a_long_text_is_cut_between_runs_and_long_runs_anywhere(pieces):
    text = "".join(pieces)
    with mock.patch.multiple(tiktoken_ranks, **LIMITS):
        parts = tiktoken_ranks._split_long_text(text)
    assert "".join(parts) == text
    for part, after in itertools.pairwise([*parts, ""]):
        assert len(part) <= 17
        assert all(len(run) <= 5 for run in RUN.findall(part))
        if after:  # not cut without need
            last, first = RUN.findall(part)[-1], RUN.findall(after)[0]
            assert len(last) == 5 if last.isspace() == first.isspace() else len(part) + min(5, len(first)) > 17
