"""What the API refuses, and that nothing is left behind by those who leave."""

import gc
import time

import httpx
import openai
import pytest

from llama_core.tokenizer import Tokenizer
from web.settings import GUIDE, Settings

QUESTION = [{"role": "user", "content": "What is temperature?"}]


def idle(manager):
    """Wait until no slot is in use."""
    deadline = time.monotonic() + 60
    while manager.stats().busy and time.monotonic() < deadline:
        time.sleep(0.05)
    return not manager.stats().busy


def test_the_model_that_is_served_is_listed(client):
    assert [model.id for model in client.models.list()] == ["guide"] == [client.models.retrieve("guide").id]
    with pytest.raises(openai.NotFoundError) as refusal:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert refusal.value.code == "model_not_found" and "guide" in refusal.value.message
    assert client.chat.completions.create(model="default", messages=QUESTION, max_tokens=1).model == "guide"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, None),
        ({"n": 1000}, "n"),
        ({"stop": [""]}, None),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),  # the guide's template has none
        ({"tool_choice": "required"}, "tools"),
        ({"messages": [*QUESTION, {"role": "tool", "content": "x"}]}, None),
        ({"messages": [*QUESTION, {"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages"),
    ],
)
def test_a_bad_request_names_what_is_wrong(client, change, param):
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**{"model": "guide", "messages": QUESTION, **change})
    assert refusal.value.type == "invalid_request_error" and refusal.value.message
    if param:
        assert refusal.value.param == param


def test_a_prompt_that_cannot_fit_is_refused_before_it_is_cut_into_tokens(client, manager, monkeypatch):
    longest = max(map(len, manager.served.model.tokenizer.token_bytes))
    text = "word " * (longest * 512)
    for name in ("encode", "encode_template"):
        monkeypatch.setattr(Tokenizer, name, lambda *_, **__: pytest.fail("it was cut into tokens"))
    long = [{"role": "user", "content": text}]
    with pytest.raises(openai.BadRequestError, match="or more.*512"):
        client.chat.completions.create(model="guide", messages=long)
    with pytest.raises(openai.BadRequestError, match="or more.*512"):
        client.completions.create(model="guide", prompt=["short", text])
    with pytest.raises(openai.BadRequestError, match="or more.*512"):
        client.post("/tokens/alternatives", body={"messages": long}, cast_to=dict)


def test_a_prompt_that_does_not_fit_is_refused_with_numbers(client):
    with pytest.raises(openai.BadRequestError, match="512"):
        client.chat.completions.create(model="guide", messages=[{"role": "user", "content": "word " * 2000}])


def test_a_body_that_is_no_json_is_refused_in_the_same_form(url):
    answer = httpx.post(f"{url}/v1/chat/completions", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"


def test_whoever_leaves_in_the_middle_frees_the_slot_and_is_not_logged_as_an_error(url, manager, caplog):
    asked = {"model": "guide", "messages": QUESTION, "max_tokens": 200, "logit_bias": {}, "temperature": 2}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json={**asked, "stream": True, "n": 2}) as answer:
        next(answer.iter_lines())
    assert idle(manager)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/chat/completions", json={**asked, "n": 16}, timeout=0.3)
    assert idle(manager)
    gc.collect()  # what was never read is told when it is thrown away
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_a_full_queue_says_when_to_come_back(client, manager):
    engine = manager.served.engine
    room, engine.max_queue = engine.max_queue, 1
    try:
        with pytest.raises(openai.InternalServerError) as refusal:
            client.chat.completions.create(model="guide", messages=QUESTION, n=16)
    finally:
        engine.max_queue = room
    assert refusal.value.status_code == 503 and int(refusal.value.response.headers["Retry-After"]) > 0
    assert idle(manager)


def test_a_key_is_asked_for(serve_with):
    url = serve_with(Settings(model=GUIDE, api_keys="sésame, other"))
    for key, code in (("sésame", 200), ("other", 200), ("sesame", 401), ("sésame, other", 401), ("", 401)):
        headers = {"Authorization": f"Bearer {key}".encode()} if key else {}
        assert httpx.get(f"{url}/v1/models", headers=headers).status_code == code
    assert httpx.get(f"{url}/health").status_code == 200
    wrong = openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError) as refusal:
        wrong.models.list()
    assert refusal.value.code == "invalid_api_key"


def test_the_description_of_the_api_has_the_table_of_parameters(url):
    described = httpx.get(f"{url}/v1/openapi.json").json()
    assert set(described["paths"]) == {
        *("/v1/models", "/v1/models/{name}", "/v1/chat/completions", "/v1/completions"),
        *("/v1/replies/{reply_id}", "/v1/tokens/alternatives"),
    }
    fields = described["components"]["schemas"]["ChatRequest"]["properties"]
    assert {"temperature", "min_p", "repetition_penalty", "max_completion_tokens"} <= set(fields)
