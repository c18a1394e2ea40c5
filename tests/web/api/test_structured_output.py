"""`response_format` through OpenAI's client: what ends by itself parses and fits."""

import json

import jsonschema
import openai
import pytest

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
