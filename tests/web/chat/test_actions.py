"""What the page does, without a browser: a wish and a conversation in, the reply to be written out, nothing lost."""

import pytest
from conversations import CONTROLS, KNOBS, OTHERS, RECORDS, talk
from fake_engine import EOS, FakeEngine, fake_model, next_id

from llama_core.sampling.params import SamplingParams
from web.chat import actions
from web.chat.actions import (
    ALTERNATIVES,
    MAX_STOP,
    MAX_STOPS,
    Controls,
    KnobError,
    moved,
    sampling_params,
    stop_at_markers,
)
from web.chat.conversation import HistoryError, Node, Record

MODEL = fake_model()


def shown(start):
    return [start.conversation.nodes[number] for number in start.conversation.path()]


def test_asking_shows_the_question_and_room_for_the_reply():
    start = actions.ask("three", talk(), MODEL, CONTROLS)
    assert [node.words for node in shown(start)][-2:] == ["three", ""] and (start.node, start.first) == (4, 3)
    with pytest.raises(HistoryError, match="Write something"):
        actions.ask("  \n", talk(), MODEL, CONTROLS)


def test_a_reply_begins_as_the_person_says():
    start = actions.ask("three", talk(), MODEL, Controls(KNOBS, prefill="Wé <|end|>"))
    node = start.conversation.nodes[start.node]
    assert node.text == "Wé <|end|>" and all(record.forced for record in node.records)
    assert EOS not in [record.id for record in node.records]  # typed text is never a control token


def test_retrying_and_editing_keep_what_was_there():
    again = actions.retry(1, talk(), MODEL, CONTROLS)
    assert again.conversation.versions(1) == [1, 3] and (again.node, again.first) == (3, 3)
    changed = actions.edit(0, "uno", talk(), MODEL, CONTROLS)
    assert [node.words for node in shown(changed)] == ["uno", ""] and changed.conversation.versions(0) == [0, 3]
    with pytest.raises(HistoryError, match="Write something"):
        actions.edit(0, " ", talk(), MODEL, CONTROLS)


def test_a_branch_has_the_tokens_before_and_the_alternative():
    start = actions.branch(1, 1, 2, talk(), MODEL)
    node = start.conversation.nodes[start.node]
    assert [record.id for record in node.records] == [1, 2] and node.text == " the cat"
    assert node.records[1].forced and node.records[1].alternatives == OTHERS
    assert start.conversation.nodes[1].records == RECORDS  # the reply stays as a version


def test_a_cut_reply_goes_on_where_it_ended():
    start = actions.resume(1, talk(), MODEL)
    assert (start.node, start.first) == (1, 1) and [record.id for record in start.conversation.nodes[1].records] == [
        1,
        3,
        7,
    ]
    ended = talk().put(1, Node("assistant", 0, records=(*RECORDS, Record(EOS, "")), model="fake", model_id="fake-id"))
    assert [record.id for record in actions.resume(1, ended, MODEL).conversation.nodes[1].records] == [1, 3, 7]


def test_words_of_another_model_are_read_anew_and_its_tokens_not_taken():
    other = fake_model("other")
    start = actions.resume(1, talk().put(1, Node("assistant", 0, "abc", model="fake", model_id="fake-id")), other)
    assert start.conversation.nodes[1].text == "abc" and start.conversation.nodes[1].model == "other"
    with pytest.raises(HistoryError, match="written by fake; load that model"):
        actions.branch(1, 1, 2, talk(), other)


@pytest.mark.parametrize(
    "wish",
    [
        lambda c: actions.retry(0, c, MODEL, CONTROLS),
        lambda c: actions.retry(99, c, MODEL, CONTROLS),
        lambda c: actions.retry(None, c, MODEL, CONTROLS),
        lambda c: actions.edit(1, "x", c, MODEL, CONTROLS),
        lambda c: actions.edit(0, None, c, MODEL, CONTROLS),
        lambda c: actions.branch(1, 3, 2, c, MODEL),
        lambda c: actions.branch(1, -1, 2, c, MODEL),
        lambda c: actions.branch(1, 0, 77, c, MODEL),
        lambda c: actions.branch(True, 0, 2, c, MODEL),
    ],
)
def test_what_no_page_of_ours_would_wish_is_refused(wish, unchecked_types):
    with pytest.raises(HistoryError):
        wish(talk())


def test_the_controls_become_parameters():
    found = sampling_params(Controls({**KNOBS, "temperature": 0, "top_k": 5.0}, seed=" 42 "))
    assert found == SamplingParams(temperature=0.0, top_k=5, seed=42, logprobs=ALTERNATIVES)


@pytest.mark.parametrize(
    ("seed", "knobs", "words", "field"),
    [
        ("x", {}, "seed is x", "Seed"),
        ("-1", {}, "seed is -1", "Seed"),
        ("99999999999", {}, "seed is 99999999999", "Seed"),
        ("", {"top_k": 1.5}, "Top-k is 1.5", "Top-k"),
        ("", {"temperature": None}, "Temperature is None", "Temperature"),
        ("", {"temperature": 1e9}, "temperature is 1000000000.0", None),
        ("", {"top_p": "0"}, "Top-p is 0", "Top-p"),
    ],
)
def test_impossible_controls_are_named(seed, knobs, words, field):
    with pytest.raises(ValueError, match=words) as problem:
        sampling_params(Controls({**KNOBS, **knobs}, seed=seed))
    assert getattr(problem.value, "field", None) == field


def test_texts_to_stop_at_stand_one_a_line():
    stop = sampling_params(Controls(KNOBS, stop="The end\n\n\\n\\n\n\\\\nabla, b")).stop
    assert stop == ("The end", "\n\n", "\\nabla, b")
    for texts in ("x" * (MAX_STOP + 1), "a\n" * (MAX_STOPS + 1)):
        with pytest.raises(KnobError, match="Stop sequences"):
            sampling_params(Controls(KNOBS, stop=texts))


def test_what_was_moved_is_said():
    old = SamplingParams(temperature=0.7, seed=1)
    assert moved(old, SamplingParams(temperature=1.2, top_k=5, seed=2)) == "Temperature 0.7 → 1.2, Top-k 0 → 5"
    assert moved(old, old) == ""


def test_the_fake_engine_goes_on_from_a_prefix():
    """The promise that the tests of branching rest on."""
    engine = FakeEngine()
    first = engine.submit([20, 21], SamplingParams(max_new_tokens=3))
    while first.finish_reason is None:
        pass
    assert first.token_ids[0] == next_id([20, 21])
    assert engine.submit([20, 21, first.token_ids[0], 5], SamplingParams(max_new_tokens=1)).cached_tokens == 3


def test_a_text_to_stop_at_that_names_a_special_token_is_that_token():
    params = stop_at_markers(SamplingParams(stop=("<|end|>", "the")), MODEL.tokenizer)
    assert params.stop == ("the",) and params.stop_token_ids == (EOS,)
    assert stop_at_markers(SamplingParams(stop=("the",)), MODEL.tokenizer).stop_token_ids == ()
