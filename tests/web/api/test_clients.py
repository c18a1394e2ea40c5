"""Clients by others than OpenAI, against a live server: chat, streaming, a schema, tools, and what is refused."""

import json

import gradio_client
import jsonschema
import langchain_openai
import litellm
import openai
import pytest
from tool_templates import template_of

from llama_core import SamplingParams

PROMPT = "What is temperature?"
QUESTION = [{"role": "user", "content": PROMPT}]
GREEDY = {"temperature": 0, "max_tokens": 20}
PERSON = {
    "title": "person",
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Alan"]}, "age": {"type": "integer", "minimum": 1, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "person", "description": "a person", "parameters": PERSON}}


@pytest.fixture(scope="module", autouse=True)
def tools(manager):
    """What is served can call tools."""
    with template_of("hermes", manager):
        yield


@pytest.fixture(scope="module")
def expected(manager, tools):
    """What the engine says itself."""
    served, params = manager.served, SamplingParams(temperature=0.0, max_new_tokens=20)
    return served.model.tokenizer.decode(
        [token.id for token in served.engine.submit(served.model.chat.prompt_ids(QUESTION), params)]
    )


@pytest.fixture
def langchain(url):
    """LangChain's chat model with these parameters."""
    return lambda **parameters: langchain_openai.ChatOpenAI(
        model="guide", base_url=f"{url}/v1", api_key="none", max_retries=0, **parameters
    )


def test_langchain_chats_and_streams(langchain, expected):
    chat = langchain(**GREEDY, logprobs=True, top_logprobs=2)
    answer = chat.invoke(PROMPT)
    assert answer.content == expected
    assert answer.usage_metadata["output_tokens"] == len(answer.response_metadata["logprobs"]["content"])
    assert "".join(chunk.content for chunk in chat.stream(PROMPT)) == expected
    stop = expected.split()[2]
    assert langchain(**GREEDY, stop=[stop]).invoke(PROMPT).content == expected[: expected.index(stop)]
    drawn = [langchain(temperature=2, max_tokens=20, seed=seed).invoke(PROMPT).content for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_langchain_gets_objects_and_calls_tools(langchain):
    chat = langchain(temperature=0.2, seed=1, max_tokens=150)
    jsonschema.validate(chat.with_structured_output(PERSON, method="json_schema").invoke(PROMPT), PERSON)
    bound = chat.bind_tools([TOOL], tool_choice="person")
    answer = bound.invoke(PROMPT)
    [call] = answer.tool_calls
    assert call["name"] == "person" and not answer.content
    jsonschema.validate(call["args"], PERSON)
    total = None
    for chunk in bound.stream(PROMPT):
        total = chunk if total is None else total + chunk
    assert [(streamed["name"], streamed["args"]) for streamed in total.tool_calls] == [("person", call["args"])]
    history = [("human", PROMPT), answer, {"role": "tool", "tool_call_id": call["id"], "content": "yes"}]
    assert langchain(**GREEDY).bind_tools([TOOL]).invoke(history).usage_metadata["output_tokens"] > 0


def test_langchain_understands_a_refusal(langchain):
    with pytest.raises(openai.BadRequestError, match="temperature"):
        langchain(temperature=1000).invoke(PROMPT)


@pytest.mark.filterwarnings("ignore")  # of litellm's own
def test_litellm_says_and_asks_the_same(url, expected):
    def ask(**changes):
        there = {"model": "openai/guide", "api_base": f"{url}/v1", "api_key": "none", "messages": QUESTION}
        return litellm.completion(**{**there, **GREEDY, **changes})

    assert "".join(piece.choices[0].delta.content or "" for piece in ask(stream=True)) == expected
    stop = expected.split()[2]
    [first, second] = ask(n=2, logprobs=True, top_logprobs=2, stop=[stop]).choices
    assert first.message.content == second.message.content == expected[: expected.index(stop)]
    assert len(first.logprobs.content[0].top_logprobs) == 2
    drawn = [ask(temperature=2, seed=seed).choices[0].message.content for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    jsonschema.validate(json.loads(ask(response_format=wanted, max_tokens=150).choices[0].message.content), PERSON)
    [call] = ask(tools=[TOOL], tool_choice="required", max_tokens=150).choices[0].message.tool_calls
    jsonschema.validate(json.loads(call.function.arguments), PERSON)
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        ask(temperature=1000)


@pytest.mark.filterwarnings("ignore")  # of gradio_client's own
def test_gradio_client_chats_and_streams(url, expected):
    client = gradio_client.Client(url, verbose=False)
    try:
        assert client.predict(PROMPT, [], GREEDY, api_name="/chat") == expected
        job = client.submit(message=PROMPT, options=GREEDY, api_name="/chat")
        assert job.result(timeout=60) == expected
        texts = job.outputs()
        assert all(later.startswith(earlier) for earlier, later in zip(texts, texts[1:], strict=False))
        history = [{"role": "system", "content": "Be brief."}, *QUESTION, {"role": "assistant", "content": "Heat."}]
        assert client.predict("And?", history, {"max_tokens": 3}, api_name="/chat")
        wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
        options = {"response_format": wanted, "max_tokens": 200, "seed": 1}
        jsonschema.validate(json.loads(client.predict(PROMPT, [], options, api_name="/chat")), PERSON)
        for options, words in (({"temperature": 1000}, "temperature"), ({"model": "gpt-4o"}, "not served")):
            with pytest.raises(Exception, match=words):
                client.predict(PROMPT, [], options, api_name="/chat")
    finally:
        client.close()
