"""Where replies end: whatever any file of a checkpoint calls the end of a turn is one for the engine."""

import pytest
from checkpoints import TEMPLATE, copy_checkpoint, edit_json, write_checkpoint

from llama_core import Engine, SamplingParams, load_checkpoint

pytestmark = pytest.mark.usefixtures("quickly_compiled")

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A ChatML-like fine-tune: replies end with <|end|> (1), config.json has the end of its base model (2)."""
    folder = tmp_path_factory.mktemp("ends")
    write_checkpoint(folder, eos_token_id=2)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return copy_checkpoint(original, tmp_path / "model")


NO_EOS = {"eos_token": None}


@pytest.mark.parametrize(
    ("config", "generation", "tokenizer", "ends"),
    [
        ({}, None, {}, (2, 1)),
        ({}, {"eos_token_id": 2}, {}, (2, 1)),
        ({"eos_token_id": None}, {"eos_token_id": None}, {}, (1,)),
        ({}, {"eos_token_id": [5, 6]}, {}, (5, 6, 2, 1)),
        ({}, None, NO_EOS, (2, 1)),  # the template alone says it
        ({}, None, NO_EOS | {"chat_template": None}, (2,)),
        ({}, None, {"chat_template": None}, (2, 1)),
        ({}, None, {"chat_template": "{{ raise_exception('no') }}"}, (2, 1)),
        ({}, {"eos_token_id": list(range(2, 40))}, {}, (*range(2, 33), 1)),  # as many as there may be
    ],
)
def test_every_end_that_a_file_names_is_an_end(folder, config, generation, tokenizer, ends):
    edit_json(folder / "config.json", **config)
    edit_json(folder / "tokenizer_config.json", **tokenizer)
    if generation is not None:
        edit_json(folder / "generation_config.json", **generation)
    assert load_checkpoint(folder).config.eos_token_id == ends


def test_a_reply_stops_at_the_end_of_its_turn(folder):
    edit_json(
        folder / "tokenizer_config.json", eos_token=None, chat_template=TEMPLATE.replace("eos_token", "'<|end|>'")
    )
    model = load_checkpoint(folder)
    likely = SamplingParams(temperature=0.0, max_new_tokens=12, logit_bias={1: 50.0})
    with Engine(model, slots=1, max_seq_len=128) as engine:
        reply = engine.submit(model.chat.prompt_ids(HI), likely)
        assert [token.id for token in reply] == [1] and reply.finish_reason == "stop"


def test_a_default_end_is_none_where_generation_config_names_the_ends(folder):
    edit_json(folder / "generation_config.json", eos_token_id=[1])
    config = (folder / "config.json").read_text().replace('"eos_token_id"', '"unknown"')
    (folder / "config.json").write_text(config)
    assert load_checkpoint(folder).config.eos_token_id == (1,)


def test_ids_of_the_padded_vocabulary_decode_to_nothing(folder):
    model = load_checkpoint(folder)
    assert model.tokenizer.vocab_size < model.config.vocab_size
    assert model.tokenizer.decode([model.config.vocab_size - 1]) == ""
