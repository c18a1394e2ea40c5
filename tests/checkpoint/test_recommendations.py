"""What the makers of a model recommend and cannot be used is ignored with a note; no model is refused for it."""

import pytest
from checkpoints import copy_checkpoint, edit_json

from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.sampling.params import MAX_END_TOKENS

pytestmark = pytest.mark.usefixtures("quickly_compiled")

OFF = SamplingParams()


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A copy of the checkpoint to be changed."""
    return copy_checkpoint(checkpoint[0], tmp_path / "copy")


@pytest.fixture(autouse=True)
def as_in_production(unchecked_types):
    """The tests' own type checker would refuse before our code does."""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("top_k", -1),
        ("top_k", "50"),
        ("top_k", 0.5),
        ("top_k", True),
        ("top_k", 2**31),
        ("top_p", 1.5),
        ("top_p", float("nan")),
        ("min_p", [0.1]),
        ("temperature", -1),
        pytest.param("temperature", 10**400, id="temperature of 400 digits"),
        ("repetition_penalty", 0),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", float("inf")),
    ],
)
def test_a_recommendation_that_cannot_be_used_is_ignored_with_a_note(copy, key, value):
    edit_json(copy / "generation_config.json", do_sample=True, **{"min_p": 0.25, key: value})
    model = load_checkpoint(copy)
    assert getattr(model.defaults, key) == getattr(OFF, key)
    assert key == "min_p" or model.defaults.min_p == 0.25  # the others count
    [note] = model.notes
    assert f"generation_config.json: {key} is " in note and note.endswith("it is ignored") and len(note) < 400


def test_a_whole_number_may_be_written_with_a_point(copy):
    edit_json(copy / "generation_config.json", top_k=50.0, eos_token_id=[2.0])
    model = load_checkpoint(copy)
    assert (model.defaults.top_k, model.config.eos_token_id, model.notes) == (50, (2, 1), ())


@pytest.mark.parametrize(
    ("ends", "used"),
    [
        ([2, 320], (2, 1)),
        ([-1, 2, "x", None, True, 10**30], (2, 1)),
        (-1, (1,)),
        ([-1], (1,)),
        ("</s>", (1,)),
        ({"a": 1}, (1,)),
        (320, (1,)),
    ],
)
def test_ends_that_no_token_has_are_ignored_with_a_note(copy, ends, used):
    edit_json(copy / "generation_config.json", eos_token_id=ends)
    model = load_checkpoint(copy)
    assert model.config.eos_token_id == used
    [note] = model.notes
    assert "generation_config.json: eos_token_id" in note and "expected a whole number from 0 to 319" in note


@pytest.mark.parametrize("value", [-1, 320, "1", 1.5, True])
def test_a_beginning_or_end_of_the_config_that_no_token_has_is_ignored_with_a_note(copy, value):
    (copy / "generation_config.json").write_text("{}")
    for key in ("bos_token_id", "eos_token_id"):
        edit_json(copy / "config.json", bos_token_id=0, eos_token_id=1)
        edit_json(copy / "config.json", **{key: value})
        model = load_checkpoint(copy)
        assert (model.config.bos_token_id, model.config.eos_token_id) == (
            (None, (1,)) if key == "bos_token_id" else (0, (1,))
        )
        assert [f"config.json: {key} " in note for note in model.notes] == [True]


def test_with_twenty_ends_messages_are_answered(copy):
    edit_json(copy / "generation_config.json", eos_token_id=list(range(1, 21)))
    model = load_checkpoint(copy)
    assert model.config.eos_token_id == tuple(range(1, 21)) and model.notes == ()
    with Engine(model, slots=1, max_seq_len=64) as engine:
        stops = tuple(range(100, 100 + 32))
        assert len(list(engine.submit([30, 40], SamplingParams(max_new_tokens=1, stop_token_ids=stops)))) <= 1


def test_of_too_many_ends_the_first_are_used_and_requests_keep_room_for_their_own(copy):
    edit_json(copy / "generation_config.json", eos_token_id=[*range(1, 200), 5])
    model = load_checkpoint(copy)
    assert model.config.eos_token_id == tuple(range(1, 1 + MAX_END_TOKENS))
    assert "holds 199 ids; those after the first 32 are ignored" in model.notes[0]


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_a_number_of_5000_digits_is_refused_by_the_name_of_its_file(copy, name):
    (copy / name).write_text('{"eos_token_id": ' + "9" * 5000 + "}")
    with pytest.raises(ValueError, match=f"{name} is not valid JSON"):
        load_checkpoint(copy)


def test_a_model_that_is_as_it_should_be_has_no_notes(model):
    assert model.notes == ()
