"""Tokens become text in one place: stop sequences wherever pieces end, held-back tokens, ends in the middle of one."""

import asyncio
import time

from fakes import FAKE_MODEL, FakePrograms
from hypothesis import given
from hypothesis import strategies as st

from llama_core import Engine, SamplingParams
from llama_core.engine.request import Token
from llama_core.engine.text import Reply, StopFilter
from llama_core.tokenizer import Tokenizer


@given(
    text=st.text("abEND\n", max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=6),
    stops=st.sampled_from([("END",), ("END", "\n\n"), ("EN", "ND"), ("aEa",), ()]),
)
def test_stop_strings_cut_the_text_wherever_pieces_end(text, cuts, stops):
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    cutter = StopFilter(stops)
    pieces = [cutter.push(text[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    if not cutter.found:
        pieces.append(cutter.flush())
    assert cutter.found == bool(places)
    shown = "".join(pieces)
    # With two stop strings in one text, the one that is complete first decides.
    assert text.startswith(shown) and not any(stop in shown for stop in stops)
    assert len(places) > 1 or shown == text[: min(places, default=len(text))]


# Token i is the i-th letter.
LETTERS = Tokenizer(
    lambda text, is_start: [ord(letter) - 97 for letter in text], [bytes([97 + i % 26]) for i in range(97)], {}
)


def ask(engine, params):
    return Reply(engine.submit(LETTERS.encode("bcd"), params), LETTERS)


def test_a_reply_is_the_text_of_its_tokens_and_ends_at_a_stop_string():
    async def collect(params):
        reply = ask(engine, params)
        pieces = [piece async for piece in reply.pieces(0.0)]
        return reply, "".join(pieces)

    with Engine(FAKE_MODEL, 1, compile=lambda *_: FakePrograms(1)) as engine:
        reply, whole = asyncio.run(collect(SamplingParams(max_new_tokens=30)))
        assert whole == LETTERS.decode([token.id for token in reply.request])
        assert len(whole) == 30 and reply.finish_reason == "length"
        reply, cut = asyncio.run(collect(SamplingParams(max_new_tokens=30, stop=(whole[10:13],))))
        assert cut == whole[: whole.index(whole[10:13])] and reply.finish_reason == "stop"
        assert list(reply.request) is not None and engine.stats().busy == 0


def test_pieces_are_gathered_never_one_a_token():
    async def collect():
        reply, begin = ask(engine, SamplingParams(max_new_tokens=200)), time.monotonic()
        return [piece async for piece in reply.pieces(0.05)], time.monotonic() - begin

    fake = FakePrograms(1)
    fake.pace = 0.002
    with Engine(FAKE_MODEL, 1, compile=lambda *_: fake) as engine:
        pieces, seconds = asyncio.run(collect())
    assert len("".join(pieces)) == 200 and len(pieces) <= seconds / 0.05 + 2  # on a slow machine they are more


class Scripted:
    """A request that gives these batches of token ids and then, perhaps, fails."""

    def __init__(self, batches, stop=(), problem=None):
        self.params, self.finish_reason = SamplingParams(stop=stop), None
        self.given, self.problem, self.cancelled = batches, problem, False

    def cancel(self):
        self.cancelled = True

    async def batches(self, interval=0.0):
        for batch in self.given:
            yield [Token(token_id) for token_id in batch]
        if self.problem is not None:
            raise self.problem


def read(reply):
    """The texts of each batch, and the problem at the end."""

    async def collect():
        batches = []
        try:
            async for batch in reply.batches():
                batches.append([text for _, text in batch])
        except RuntimeError as problem:
            return batches, problem
        return batches, None

    return asyncio.run(collect())


def ids(text):
    return LETTERS.encode(text)


def test_tokens_in_which_a_stop_sequence_may_have_begun_wait():
    reply = Reply(Scripted([ids("ab"), ids("c"), ids("x")], stop=("cd",)), LETTERS)
    assert read(reply) == ([["a", "b"], ["c", "x"]], None) and not reply.stopped


def test_a_stop_sequence_cancels_the_request_and_is_not_shown():
    request = Scripted([ids("abc"), ids("de"), ids("f")], stop=("cd",))
    reply = Reply(request, LETTERS)
    assert read(reply) == ([["a", "b"]], None)
    assert reply.stopped and reply.finish_reason == "stop" and request.cancelled


def test_the_token_in_which_a_stop_sequence_begins_keeps_the_text_before_it():
    words = Tokenizer(lambda text, is_start: [], [b"on the", b" mat"], {})
    assert read(Reply(Scripted([[0], [1]], stop=("he m",)), words)) == ([["on t"]], None)


def test_what_was_held_back_comes_before_the_problem():
    problem = RuntimeError("the device is gone")
    assert read(Reply(Scripted([ids("ab"), ids("c")], stop=("cd",), problem=problem), LETTERS)) == (
        [["a", "b"], ["c"]],
        problem,
    )


def test_a_character_begun_before_the_reply_is_completed_by_its_first_token():
    halves = Tokenizer(lambda text, is_start: [], ["é".encode()[:1], "é".encode()[1:]], {})
    assert read(Reply(Scripted([[1]]), halves, begun_ids=[0])) == ([["é"]], None)
