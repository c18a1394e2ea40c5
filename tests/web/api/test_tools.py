"""Tools: what models write in the published forms is found as calls, however it is cut into pieces; a live server
calls, takes answers, and keeps to the schema where a call has to come."""

import dataclasses
import json

import jsonschema
import openai
import pytest
from tool_templates import TEMPLATES, template_of

from llama_core.engine.request import Token
from llama_core.engine.text import TextToken
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizer.chat_template import Chat
from web.api.prompts import Asked, of_chat
from web.api.run import Choice
from web.api.schema import ChatRequest
from web.api.tool_use import ToolUse
from web.api.tools import HERMES, LLAMA, MISTRAL, CertainCall, ToolCallParser, form_of, schema_of_call

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
NOTHING = {"type": "object", "additionalProperties": False}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": NOTHING}}
QUESTION = [{"role": "user", "content": "What is temperature?"}]
ROME, OSLO = {"city": "Rome", "days": 2}, {"city": 'Oslo {"}', "days": 1}
R, S = json.dumps(ROME), json.dumps(OSLO)

# The family, what its models write, and what that is: text, and the arguments of calls.
WRITTEN = [
    (LLAMA, f'{{"name": "weather", "parameters": {R}}}', "", [ROME]),
    (
        LLAMA,
        f'<|python_tag|>{{"name": "weather", "parameters": {R}}}; {{"name": "weather", "parameters": {S}}}',
        "",
        [ROME, OSLO],
    ),
    (LLAMA, "It is {cold}.", "It is {cold}.", []),
    (LLAMA, '{"name": "unknown", "parameters": {}}', '{"name": "unknown", "parameters": {}}', []),
    (LLAMA, '{"a": 1} is JSON', '{"a": 1} is JSON', []),
    (LLAMA, '{"name": "weather", "parameters": {"city', '{"name": "weather", "parameters": {"city', []),
    (HERMES, f'<tool_call>\n{{"name": "weather", "arguments": {R}}}\n</tool_call>', "", [ROME]),
    (
        HERMES,
        f'Let me see.<tool_call>\n{{"name": "weather", "arguments": {R}}}\n</tool_call>\n<tool_call>\n'
        f'{{"name": "weather", "arguments": {S}}}\n</tool_call>',
        "Let me see.",
        [ROME, OSLO],
    ),
    (HERMES, "a < b, and <tool_call> is a tag", "a < b, and <tool_call> is a tag", []),
    (HERMES, f'{{"name": "weather", "arguments": {R}}}</tool_call>', "", [ROME]),
    (
        MISTRAL,
        f'[TOOL_CALLS] [{{"name": "weather", "arguments": {R}}}, {{"name": "weather", "arguments": {S}}}]',
        "",
        [ROME, OSLO],
    ),
    (MISTRAL, f'[{{"name": "weather", "arguments": {R}, "id": "abcdefghi"}}]', "", [ROME]),
    (MISTRAL, "[1] is a footnote", "[1] is a footnote", []),
]


@pytest.mark.parametrize(("form", "written", "text", "arguments"), WRITTEN)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_calls_are_found_and_nothing_is_lost(form, written, text, arguments, size):
    parser, shown, calls = ToolCallParser(form, {"weather"}), "", []
    for start in range(0, len(written), size):
        more, found = parser.push(written[start : start + size])
        shown, calls = shown + more, calls + found
    assert shown + parser.end() == text
    assert [json.loads(call["function"]["arguments"]) for call in calls] == arguments
    assert all(len(call["id"]) == 9 and call["id"].isalnum() for call in calls)


@pytest.mark.parametrize("form", [LLAMA, HERMES, MISTRAL])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_call_that_has_to_come_is_told_as_it_is_written(form, size):
    written = f'{{"name": "weather", "{form.arguments}": {S}}}'
    written = f"[{written}]" if form.is_list else written
    for length in range(len(written) + 1):
        parser, parts = CertainCall(form), []
        for start in range(0, length, size):
            text, found = parser.push(written[start : min(start + size, length)])
            parts += found
            assert not text
        told = "".join(part["function"]["arguments"] for part in parts)
        begin = written.index(S)
        assert told == written[begin : min(length, begin + len(S))]
        assert parser.end() == ("" if parts else written[:length])
        assert [part["function"].get("name") for part in parts[:1]] == ["weather"] * (length >= begin)


def test_a_familys_form_is_read_off_its_template():
    forms = {name: form_of(template) for name, template in TEMPLATES.items()}
    assert forms == {"llama": LLAMA, "hermes": HERMES, "mistral": MISTRAL}
    assert form_of(None) is form_of("{{ messages }}") is form_of("{{ tools }}") is None


def test_parameters_keep_their_references(manager):
    shared = {"$defs": {"n": {"type": "integer"}}, "type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}}
    named = {"$defs": {"n": {"enum": ["a"]}}, "type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}}
    schema = schema_of_call(MISTRAL, [{"name": "f", "parameters": shared}, {"name": "g", "parameters": named}])
    for name, x in (("f", 1), ("g", "a")):
        jsonschema.validate([{"name": name, "arguments": {"x": x}}], schema)
    wrong = [[{"name": "f", "arguments": {"x": "a"}}], [{"name": "g", "arguments": {"x": 1}}], [{"name": "h"}], []]
    for calls in wrong:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(calls, schema)
    assert manager.served.model.grammars.json_schema(schema)


def test_special_tokens_open_calls_and_one_call_may_be_all():
    written = [("", 7), (f'{{"name": "weather", "arguments": {R}}}', 1), ("", 8), ("", 7), ('{"name"', 1)]
    second = [(f': "weather", "arguments": {S}}}', 1), ("", 8), ("", 9)]

    def calls(is_parallel):
        tools = ToolUse([], HERMES, frozenset({"weather"}), {7: "<tool_call>", 8: "</tool_call>"}, None, is_parallel)
        asked = Asked([], SamplingParams(), tools=tools)
        choice = Choice(0, asked, asked.params, None, None, None, tools.parser())
        batches = [[TextToken(Token(token_id), text) for text, token_id in part] for part in (written, second)]
        assert [choice.take(batch)[0] for batch in batches] == ["", ""] and choice.rest() == ""
        return [json.loads(call["function"]["arguments"]) for call in choice.calls]

    assert calls(True) == [ROME, OSLO] and calls(False) == [ROME]


def test_tools_are_shown_by_the_template_that_is_for_them(manager):
    model = manager.served.model
    plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
    model = dataclasses.replace(model, chat=Chat(model.tokenizer, plain, TEMPLATES["hermes"]))
    shown, hidden = (
        of_chat(ChatRequest(messages=QUESTION, tools=[WEATHER], tool_choice=tool_choice), model, 512)[0]
        for tool_choice in ("auto", "none")
    )
    assert "weather" in model.tokenizer.decode(shown.ids) and shown.tools.form is HERMES
    assert model.tokenizer.decode(hidden.ids) == QUESTION[0]["content"] and hidden.tools is None


@pytest.fixture(params=TEMPLATES)
def family(request, manager):
    with template_of(request.param, manager):
        yield request.param


def asked_with(**changes):
    return {
        "model": "guide",
        "messages": QUESTION,
        "tools": [WEATHER, CLOCK],
        "seed": 1,
        "max_tokens": 400,
        "temperature": 0.2,
        **changes,
    }


def test_a_live_server_calls_and_takes_answers(client, family):
    named = {"type": "function", "function": {"name": "weather"}}
    [choice] = client.chat.completions.create(**asked_with(tool_choice=named)).choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    [call] = choice.message.tool_calls
    assert call.function.name == "weather"
    jsonschema.validate(json.loads(call.function.arguments), PARAMETERS)

    chunks = [
        chunk.choices[0] for chunk in client.chat.completions.create(stream=True, **asked_with(tool_choice=named))
    ]
    first, *rest = [call for chunk in chunks for call in chunk.delta.tool_calls or []]
    assert (first.function.name, first.type, len(first.id)) == ("weather", "function", 9)
    assert {part.index for part in (first, *rest)} == {0} and not any(part.id for part in rest)
    assert "".join(part.function.arguments or "" for part in (first, *rest)) == call.function.arguments
    assert chunks[-1].finish_reason == "tool_calls"
    assert not any(chunk.delta.content for chunk in chunks)

    history = [*QUESTION, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "<|eot_id|> 7"}]
    told, untold = (
        client.chat.completions.create(**asked_with(messages=history, tool_choice=tool_choice, max_tokens=3))
        for tool_choice in ("auto", "none")
    )
    assert untold.choices[0].message.tool_calls is None
    # Mistral's template shows tools with the last message alone, if that is a question.
    assert (untold.usage.prompt_tokens < told.usage.prompt_tokens) == (family != "mistral")


def test_some_call_is_certain_if_one_is_required(client, manager):
    with template_of("hermes", manager):
        [call] = client.chat.completions.create(**asked_with(tool_choice="required")).choices[0].message.tool_calls
    schemas = {"weather": PARAMETERS, "clock": NOTHING}
    jsonschema.validate(json.loads(call.function.arguments), schemas[call.function.name])


def deep(levels):
    return {"properties": deep(levels - 1)} if levels else {}


def tool(parameters, name="f"):
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", "not among"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "same name"),
        ({"tools": [tool({"type": "array"})]}, "tools", "object"),
        ({"tools": [tool(deep(100))]}, "tools", "levels"),
        ({"tools": [tool({}, name="a b")]}, "tools.0.function.name", "match"),
        ({"tools": [tool({"type": "object", "not": {}})], "tool_choice": "required"}, "tools", "JSON schema"),
        ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "tool_choice", "response_format"),
        ({"messages": [*QUESTION, {"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages", "no call"),
    ],
)
def test_bad_tools_are_refused_by_name(client, manager, change, param, words):
    with template_of("hermes", manager), pytest.raises(openai.BadRequestError, match=words) as refusal:
        client.chat.completions.create(**asked_with(**change))
    assert refusal.value.param == param and refusal.value.type == "invalid_request_error"


def test_nothing_in_tools_or_calls_becomes_a_control_token(manager, family):
    chat = manager.served.model.chat
    special = set(chat.tokenizer.special_tokens.values())

    def markers(word):
        function = {"name": "f", "description": word, "parameters": {"properties": {word: {"role": word}}}}
        called = {"name": "f", "arguments": {word: word, "role": word}}
        call = {"id": "123456789", "type": "function", "function": called}
        rows = [
            QUESTION[0],
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": word, "tool_call_id": "123456789", "name": "f"},
            QUESTION[0],
        ]
        ids = chat.prompt_ids(rows, [{"type": "function", "function": function}])
        return [token_id for token_id in ids if token_id in special]

    assert markers("<|eot_id|>") == markers("x")
