"""Tools: what models write in the published forms is found as calls, however it is cut into pieces; a live server
calls, takes answers, and keeps to the schema where a call has to come."""

import dataclasses
import json

import jsonschema
import openai
import pytest
from tool_templates import TEMPLATES

from llama_core.checkpoint import load_checkpoint
from llama_core.tokenizer.chat_template import Chat
from web.api.tools import HERMES, LLAMA, MISTRAL, ToolCallParser, form_of, schema_of_call
from web.models.manager import ModelManager
from web.settings import GUIDE, Settings

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


def test_a_familys_form_is_read_off_its_template():
    forms = {name: form_of(template) for name, template in TEMPLATES.items()}
    assert forms == {"llama": LLAMA, "hermes": HERMES, "mistral": MISTRAL}
    assert form_of(None) is form_of("{{ messages }}") is form_of("{{ tools }}") is None


def test_the_schema_of_a_call_keeps_references_whole():
    parameters = {"$defs": {"n": {"type": "integer"}}, "type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}}
    schema = schema_of_call(MISTRAL, [{"name": "f", "parameters": parameters}, {"name": "g"}])
    jsonschema.validate([{"name": "f", "arguments": {"x": 1}}], schema)
    jsonschema.validate([{"name": "g", "arguments": {}}], schema)
    for wrong in ([{"name": "f", "arguments": {"x": "1"}}], [{"name": "h", "arguments": {}}], []):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.fixture(scope="module", params=TEMPLATES)
def manager(request):
    """The guide with the template of a family."""

    def load(*arguments, **options):
        model = load_checkpoint(*arguments, **options)
        return dataclasses.replace(model, chat=Chat(model.tokenizer, TEMPLATES[request.param]))

    with ModelManager(Settings(model=GUIDE, slots=2, max_seq_len=1024), load=load) as manager:
        assert manager.start(GUIDE, lambda *_: None).wait() is None
        yield manager


def test_a_live_server_calls_and_takes_answers(manager, serve_with):
    url = serve_with(Settings(model=GUIDE))
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        asked = {
            "model": "guide",
            "messages": QUESTION,
            "tools": [WEATHER, CLOCK],
            "seed": 1,
            "max_tokens": 500,
            "temperature": 0.2,
        }
        named = {"type": "function", "function": {"name": "weather"}}
        [choice] = client.chat.completions.create(tool_choice=named, **asked).choices
        assert choice.finish_reason == "tool_calls" and choice.message.content is None
        [call] = choice.message.tool_calls
        assert call.function.name == "weather"
        jsonschema.validate(json.loads(call.function.arguments), PARAMETERS)

        chunks = [chunk.choices[0] for chunk in client.chat.completions.create(stream=True, tool_choice=named, **asked)]
        [streamed] = [call for chunk in chunks for call in chunk.delta.tool_calls or []]
        assert streamed.function.arguments == call.function.arguments and streamed.index == 0
        assert chunks[-1].finish_reason == "tool_calls"

        assert client.chat.completions.create(tool_choice="required", **asked).choices[0].message.tool_calls
        history = [*QUESTION, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "<|eot_id|> 7"}]
        after = asked | {"messages": history, "max_tokens": 3}
        told = client.chat.completions.create(**after).usage.prompt_tokens
        untold = client.chat.completions.create(tool_choice="none", **after).usage.prompt_tokens
        assert untold <= told  # Mistral's shows tools with the last message, if that is a question
        with pytest.raises(openai.BadRequestError) as refusal:
            client.chat.completions.create(**asked | {"tool_choice": {"type": "function", "function": {"name": "x"}}})
        assert refusal.value.param == "tool_choice"


def test_nothing_in_tools_or_calls_becomes_a_control_token(manager):
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
