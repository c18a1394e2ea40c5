"""What a reply has to be, asked through OpenAI's client: what ends by itself parses, fits, matches, or is one of the
texts."""

import json
import re

import jsonschema
import openai
import pytest

from llama_core.sampling.grammar import MAX_CHARACTERS

QUESTION = [{"role": "user", "content": "What is temperature?"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "word": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["noun", "verb"]},
        "counts": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 3},
    },
    "required": ["word", "kind", "counts"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(3))
def test_a_reply_fits_its_schema(client, seed):
    wanted = {"type": "json_schema", "json_schema": {"name": "entry", "strict": True, "schema": SCHEMA}}
    answer = client.chat.completions.create(
        model="guide", messages=QUESTION, response_format=wanted, temperature=0.5, seed=seed, max_tokens=230
    )
    [choice] = answer.choices
    assert choice.finish_reason == "stop"
    jsonschema.validate(json.loads(choice.message.content), SCHEMA)


def test_a_streamed_json_object_parses_unless_it_was_cut(client):
    asked = {
        "model": "guide",
        "messages": QUESTION,
        "response_format": {"type": "json_object"},
        "temperature": 1,
        "seed": 1,
    }
    text = "".join(
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(stream=True, max_tokens=3, **asked)
    )
    assert text.lstrip().startswith("{")
    assert client.chat.completions.create(max_tokens=3, **asked).choices[0].finish_reason in ("length", "stop")


def test_a_schema_that_cannot_be_followed_is_refused(client):
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError, match="nonsense"):
        client.chat.completions.create(model="guide", messages=QUESTION, response_format=wanted)


PATTERN = r"(warm|cold)(er)?, -?\d{1,2} °C[.!]?"
TEXTS = ["yes", "yes, please", 'no "way" \\ 🙂']


def fits(rule, text):
    return re.fullmatch(PATTERN, text) is not None if rule == "regex" else text in TEXTS


@pytest.mark.parametrize(("rule", "what"), [("regex", PATTERN), ("choice", TEXTS)])
def test_a_reply_matches_a_regular_expression_or_is_one_of_some_texts(client, rule, what):
    asked = {"model": "guide", "temperature": 1.5, "max_tokens": 60}
    ways = {"response_format": {"type": rule, rule: what}}, {"structured_outputs": {rule: what}}  # ours, vLLM's
    for seed, way in enumerate(ways):
        answers = [
            client.chat.completions.create(messages=QUESTION, seed=seed, extra_body=way, **asked).choices[0],
            client.completions.create(prompt="Temperature is", seed=seed, extra_body=way, **asked).choices[0],
        ]
        texts = [answers[0].message.content, answers[1].text]
        chunks = list(client.chat.completions.create(messages=QUESTION, seed=9, extra_body=way, stream=True, **asked))
        texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
        ends = [*(answer.finish_reason for answer in answers), chunks[-1].choices[0].finish_reason]
        assert [fits(rule, text) for text in texts] == [True] * 3 and ends == ["stop"] * 3, texts


def test_vllms_clients_send_schemas_too(client):
    asked = {"model": "guide", "messages": QUESTION, "temperature": 0.5, "max_tokens": 230, "seed": 1}
    for way in ({"json": SCHEMA}, {"json_object": True}):
        [choice] = client.chat.completions.create(extra_body={"structured_outputs": way}, **asked).choices
        if way.get("json"):
            assert choice.finish_reason == "stop"
            jsonschema.validate(json.loads(choice.message.content), SCHEMA)
        else:
            assert choice.message.content.lstrip().startswith("{")


def formed(**given):
    return {"response_format": given}


def vllm(**given):
    return {"structured_outputs": given}


@pytest.mark.parametrize(
    ("asked", "param", "words"),
    [
        (formed(type="regex"), "response_format", "needs the field regex"),
        (formed(type="regex", regex="a("), "response_format", "unclosed group"),
        (formed(type="regex", regex="(?=a)b"), "response_format", "look-around"),
        (formed(type="regex", regex="(" * 60_000), "response_format", "regular expression"),
        (formed(type="regex", regex="a" * (MAX_CHARACTERS + 1)), "response_format.regex", str(MAX_CHARACTERS)),
        (formed(type="choice", choice=[]), "response_format.choice", "at least 1"),
        (formed(type="choice", choice=["a", ""]), "response_format.choice.1", "at least 1"),
        (formed(type="choice", choice=["ab" * 10] * MAX_CHARACTERS), "response_format", str(MAX_CHARACTERS)),
        (formed(type="json_schema", json_schema={"schema": {"not": {}}}), "response_format", "JSON schema"),
        (vllm(), "structured_outputs", "one of json, json_object, regex and choice"),
        (vllm(regex="a", choice=["a"]), "structured_outputs", "one of json, json_object, regex and choice"),
        (vllm(grammar="root ::= a"), "structured_outputs.grammar", "not permitted"),
        (vllm(regex="a("), "structured_outputs", "unclosed group"),
        (formed(type="json_object") | vllm(choice=["a"]), "structured_outputs", "leave one of them out"),
    ],
)
def test_what_cannot_be_kept_to_is_refused_by_its_name(client, asked, param, words):
    for ask in (
        lambda: client.chat.completions.create(model="guide", messages=QUESTION, extra_body=asked),
        lambda: client.completions.create(model="guide", prompt="x", extra_body=asked),
    ):
        with pytest.raises(openai.BadRequestError, match=words) as refusal:
            ask()
        assert (refusal.value.type, refusal.value.param) == ("invalid_request_error", param)
