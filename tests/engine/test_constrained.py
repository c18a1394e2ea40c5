"""Replies that follow a grammar: they always hold to it, and the others do not notice."""

import json
import re

import jax
import jsonschema
import numpy as np
import pytest
from checkpoints import reference_logits
from engine_steps import ids, wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_schemas import SCHEMAS
from llguidance import LLMatcher, LLTokenizer

from llama_core import SamplingParams
from llama_core.engine import BadRequest
from llama_core.sampling.grammar import JSON_OPTIONS, GrammarCompiler, GrammarError, NextTokens

# The programs of both forms for GPUs are made of the same steps.
pytestmark = pytest.mark.parametrize("form", ["plain", "cudnn"], indirect=True)
PROMPT = [5, 6, 7]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "ages": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
    },
    "required": ["name", "ages"],
    "additionalProperties": False,
}


@pytest.fixture
def engine(serve):
    return serve()


def text_of(model, request):
    return model.tokenizer.decode(ids(request))


def warm(seed, **more):
    return SamplingParams(**{"temperature": 1.5, "seed": seed, "max_new_tokens": 250, **more})


def test_a_reply_that_ends_by_itself_is_valid(engine, model, form, request):
    """Under schemas that hypothesis makes up, of which three are followed side by side; a random model at temperature
    1.5 is the hardest case."""
    ended, count = [], request.config.getoption("--schemas") // (5 if form.is_straight else 1)
    kinds = [warm(1), warm(2, top_p=0.9, repetition_penalty=1.2), warm(3, temperature=0.0)]

    @settings(
        max_examples=-(-count // 3),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(SCHEMAS, SCHEMAS, SCHEMAS))
    def check(schemas):
        asked = zip(schemas, kinds, strict=True)
        replies = [engine.submit(PROMPT, params, grammar=model.grammars.json_schema(it)) for it, params in asked]
        for schema, reply in zip(schemas, replies, strict=True):
            text = text_of(model, reply)
            ended.append(reply.finish_reason == "stop")
            if ended[-1]:
                jsonschema.validate(json.loads(text), schema, jsonschema.Draft202012Validator)
            else:
                assert reply.finish_reason == "length" and len(reply.token_ids) == reply.params.max_new_tokens

    check()
    assert len(ended) >= count and sum(ended) > 0.5 * len(ended)


@pytest.mark.parametrize("pattern", [r"\d{1,3}(\.\d\d)?", "(?i)(warm|hot) (tea|milk)!*", "[^aeiou]{4}", "é+|ü{2,5}"])
def test_a_reply_that_ends_by_itself_matches_its_pattern(engine, model, pattern):
    grammar = model.grammars.regex(pattern)
    replies = [engine.submit(PROMPT, warm(seed, max_new_tokens=40), grammar=grammar) for seed in range(3)]
    texts = [text_of(model, reply) for reply in replies]
    ended = [text for text, reply in zip(texts, replies, strict=True) if reply.finish_reason == "stop"]
    assert ended and all(re.fullmatch(pattern, text) for text in ended)


@pytest.fixture(scope="module")
def reference_matcher(checkpoint):
    """llguidance with the tokenizer as it reads it itself."""
    tokenizer = LLTokenizer(str(checkpoint[0] / "tokenizer.json"), n_vocab=320, eos_token=1)
    return lambda source: LLMatcher(tokenizer, source)


@pytest.mark.parametrize(
    "kind, source",
    [
        ("json_schema", LLMatcher.grammar_from_json_schema(SCHEMA, JSON_OPTIONS)),
        ("regex", LLMatcher.grammar_from_regex("(the|cat| ){3,40}!?")),
    ],
)
def test_a_greedy_reply_takes_the_likeliest_allowed_token(engine, model, checkpoint, reference_matcher, kind, source):
    """Step by step, from the whole sequence each time."""
    matcher, expected = reference_matcher(source), []
    while len(expected) < 60 and not matcher.is_stopped():
        scores = reference_logits(checkpoint[1], [PROMPT + expected])[0, -1]
        allowed = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")[:320] > 0
        expected.append(int(np.where(allowed, scores, -np.inf).argmax()))
        assert matcher.consume_token(expected[-1])
    grammar = getattr(model.grammars, kind)(SCHEMA if kind == "json_schema" else "(the|cat| ){3,40}!?")
    reply = engine.submit(PROMPT, SamplingParams(temperature=0.0, max_new_tokens=60), grammar=grammar)
    assert ids(reply) == expected and len(expected) > 5


def test_others_do_not_notice(engine, model):
    kinds = [SamplingParams(temperature=0.0, max_new_tokens=90), warm(4, max_new_tokens=90, logprobs=3)]
    alone = [list(engine.submit([8 + i, 9], params)) for i, params in enumerate(kinds)]
    others = [engine.submit([8 + i, 9], params) for i, params in enumerate(kinds)]
    constrained = engine.submit(PROMPT, warm(3), grammar=model.grammars.json_schema(SCHEMA))
    beside = [list(other) for other in others]
    assert [[token.id for token in reply] for reply in beside] == [[token.id for token in reply] for reply in alone]
    np.testing.assert_allclose(
        [token.final_logprob for token in beside[1]], [token.final_logprob for token in alone[1]], atol=1e-4
    )
    jsonschema.validate(json.loads(text_of(model, constrained)), SCHEMA)


def test_same_seed_same_reply_beside_other_chats(engine, model):
    grammar = model.grammars.json_schema(SCHEMA)
    alone = ids(engine.submit(PROMPT, warm(7), grammar=grammar))
    other = engine.submit([9, 9], warm(8, ignore_eos=True))
    assert ids(engine.submit(PROMPT, warm(7), grammar=grammar)) == alone
    other.cancel()
    assert ids(engine.submit(PROMPT, warm(9), grammar=grammar)) != alone


def test_a_slot_that_was_constrained_is_free_again(engine, model):
    """In every slot, for the next request that is not constrained."""
    plain = SamplingParams(temperature=0.0, max_new_tokens=40)
    expected = ids(engine.submit(PROMPT, plain))
    for reply in [engine.submit([i, 4], warm(i), grammar=model.grammars.choice(["cat", "hat"])) for i in range(3)]:
        assert text_of(model, reply) in ("cat", "hat") and reply.finish_reason == "stop"
    assert [ids(reply) for reply in [engine.submit(PROMPT, plain) for _ in range(3)]] == [expected] * 3


def test_the_end_is_drawn_only_where_the_grammar_may_end(engine, model):
    wish = {1: 100.0}  # the end-of-text token
    reply = engine.submit(PROMPT, warm(1, logit_bias=wish), grammar=model.grammars.regex("[a-z]{4,}"))
    assert len(text_of(model, reply)) >= 4 and ids(reply)[-1] == 1 and reply.finish_reason == "stop"
    endless = warm(1, logit_bias=wish, ignore_eos=True, max_new_tokens=20)
    reply = engine.submit(PROMPT, endless, grammar=model.grammars.regex("[a-z]{4,}"))
    assert 1 not in ids(reply) and len(ids(reply)) == 20 and reply.finish_reason == "length"


def test_a_complete_reply_without_room_for_more_has_ended_by_itself(engine, model):
    grammar = model.grammars.regex("[a-z]{3}[0-9]")
    lengths = {}
    for count in range(1, 5):
        reply = engine.submit(PROMPT, SamplingParams(temperature=0.0, max_new_tokens=count), grammar=grammar)
        lengths[count] = (len(text_of(model, reply)) == 4, reply.finish_reason)
    assert lengths[4] == (True, "stop") and lengths[1] == (False, "length")
    assert all((complete, reason) in ((True, "stop"), (False, "length")) for complete, reason in lengths.values())


def test_log_probabilities_are_the_models_and_those_after_the_grammar(engine, model, checkpoint):
    params = warm(2, logprobs=20, temperature=1.0)
    reply = engine.submit(PROMPT, params, grammar=model.grammars.regex("[a-c]{30}"))
    context = list(PROMPT)
    for token in reply:
        scores = reference_logits(checkpoint[1], [context])[0, -1].astype(np.float64)
        letters = [i for i, text in enumerate(model.tokenizer.token_bytes) if text and not text.strip(b"abc")]
        given = scores - np.log(np.exp(scores).sum())
        final = {i: scores[i] - np.log(np.exp(scores[letters]).sum()) for i in letters}
        np.testing.assert_allclose([token.logprob, token.final_logprob], [given[token.id], final[token.id]], atol=1e-3)
        assert [other.id for other in token.top] == np.argsort(-given, kind="stable")[:20].tolist()
        for other in token.top:
            np.testing.assert_allclose(other.final_logprob, final.get(other.id, -np.inf), atol=1e-3)
        context.append(token.id)
        if len(context) > 15:  # near the end a longer token no longer fits
            break


def test_a_cancel_in_the_middle_frees_the_slot(engine, model):
    grammar = model.grammars.regex("[a-z]{200,}")
    replies = [engine.submit(PROMPT, warm(i), grammar=grammar) for i in range(5)]
    wait_for(lambda: all(len(reply.token_ids) > 2 for reply in replies[:3]))
    for reply in replies[:3]:
        reply.cancel()
    assert [ids(reply) is not None and reply.finish_reason for reply in replies[:3]] == ["cancelled"] * 3
    for reply in replies[3:]:
        reply.cancel()
    wait_for(lambda: engine.stats().busy == 0)


def test_sampling_can_change_in_the_middle(engine, model):
    """Also what ends the reply: an end that was allowed when it stopped being one ends it all the same."""
    reply = engine.submit(PROMPT, warm(1, ignore_eos=True), grammar=model.grammars.regex("[a-z]+"))
    wait_for(lambda: len(reply.token_ids) > 2)
    reply.update(warm(1, logit_bias={1: 100.0}))
    text = text_of(model, reply)
    assert reply.finish_reason in ("stop", "length") and text.isalpha() and reply.changes
    assert 1 not in ids(reply)[:-1]


def test_a_begun_reply_goes_on_in_its_grammar(engine, model):
    begun = model.tokenizer.encode('{"name": "cat", ')
    grammar = model.grammars.json_schema(SCHEMA)
    reply = engine.submit(PROMPT, warm(1), reply_ids=begun, grammar=grammar)
    found = json.loads(model.tokenizer.decode([*begun, *ids(reply)]))
    jsonschema.validate(found, SCHEMA)
    assert found["name"] == "cat"
    with pytest.raises(GrammarError, match="beginning of the reply"):
        engine.submit(PROMPT, warm(1), reply_ids=model.tokenizer.encode("["), grammar=grammar)


def test_a_grammar_of_another_model_is_refused(engine, model):
    other = GrammarCompiler(model.tokenizer, 4000).json_object()
    with pytest.raises(BadRequest, match="compiled for another model"):
        engine.submit(PROMPT, grammar=other)


def test_a_grammar_that_fails_in_the_middle_fails_alone(engine, model, monkeypatch):
    grammar = model.grammars.regex("[a-z]{9,}")
    other = engine.submit([9, 9], warm(8, ignore_eos=True, max_new_tokens=60))

    def fail(state, token_id) -> NextTokens:
        raise GrammarError("too complex")

    monkeypatch.setattr("llama_core.sampling.grammar.GrammarState.accept", fail)
    reply = engine.submit(PROMPT, warm(1), grammar=grammar)
    with pytest.raises(GrammarError, match="too complex"):
        list(reply)
    assert reply.finish_reason == "error" and len(ids(other)) == 60
    assert engine.stats().busy == 0


def test_a_constrained_reply_compiles_nothing(engine, model):
    seen = []

    def listen(event, seconds, **_):
        if event.endswith(("backend_compile_duration", "jaxpr_trace_duration")):
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        other = engine.submit([9, 9], warm(8, max_new_tokens=40))
        for make in (model.grammars.json_object, lambda: model.grammars.json_schema(SCHEMA)):
            list(engine.submit(PROMPT, warm(1, logprobs=3), grammar=make()))
        list(other)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert seen == []
