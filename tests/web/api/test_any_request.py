"""Requests that nobody thought of: made by schemathesis from the description of the API, and made here where that makes
none (odd values in a good request, bodies that are no JSON, other methods and types). Whatever is asked, the answer is
in the documented form and comes soon.

    pytest tests/web/api/test_any_request.py --requests 5000
"""

import json

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

SECONDS = 20  # far more than four tokens take, far less than for ever
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
CHAT = {"model": "guide", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
COMPLETION = {"model": "guide", "prompt": "Hello", "max_tokens": 2}
DEEP = 3000


@pytest.fixture
def many(request):
    """So many examples, the same in each run."""
    return settings(
        max_examples=request.config.getoption("--requests") // 2,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def with_model(case):
    """The request for the model that is served, and short; else hardly any would get a reply."""
    case.body = {**case.body, "model": "guide", "max_tokens": 2}
    case.body.pop("max_completion_tokens", None)
    return case


def cases(url):
    """Requests as the description allows them, and as it does not."""
    operations = [found.ok() for found in schemathesis.openapi.from_url(f"{url}/v1/openapi.json").get_all_operations()]
    posts = [operation for operation in operations if operation.method == "post"]
    gets = [operation for operation in operations if operation.method == "get"]
    good = [operation.as_strategy(GenerationMode.POSITIVE) for operation in posts]
    kinds = [*good, *(strategy.map(with_model) for strategy in good)]
    kinds += [operation.as_strategy(GenerationMode.NEGATIVE) for operation in posts]
    return st.one_of(*kinds, *kinds, *(operation.as_strategy(GenerationMode.POSITIVE) for operation in gets))


@pytest.mark.filterwarnings("ignore")  # of schemathesis' own
def test_requests_made_from_the_description(brief_url, many):
    counts = {}

    @many
    @given(cases(brief_url))
    def check(case):
        answer = case.call(timeout=SECONDS)
        counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
        case.validate_response(answer, checks=CHECKS)

    check()
    assert counts[200] and counts[400] and counts[404], counts


NUMBERS = st.integers() | st.floats() | st.sampled_from([-1, 2**31, 2**63, 10**400, 1e308, float("nan"), -0.0])
TEXTS = st.text(max_size=8) | st.sampled_from(["\ud800", "\x00", "<|im_end|>", "９", "1_0", "x" * 5000, "guide"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    *("messages", "prompt", "model", "stream", "stream_options", "n", "seed", "stop", "max_tokens", "logit_bias"),
    *("temperature", "top_k", "top_p", "min_p", "logprobs", "top_logprobs", "response_format", "echo", "tools"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "max_completion_tokens"),
)
INNER = st.sampled_from(
    [
        lambda value: {"messages": [{"role": "user", "content": value}]},
        lambda value: {"messages": [{"role": value, "content": "Hello"}]},
        lambda value: {"messages": [{"role": "assistant", "content": [{"type": "text", "text": value}]}]},
        lambda value: {"prompt": [value]},
        lambda value: {"prompt": [[value, 5]], "echo": True},
        lambda value: {"stop": [value]},
        lambda value: {"logit_bias": {"5": value}},
        lambda value: {"logit_bias": {str(value): 1}},
        lambda value: {"stream": True, "stream_options": {"include_usage": value}},
        lambda value: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}},
        lambda value: {"response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": value}}}},
    ]
)
CHANGES = st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3) | st.builds(
    lambda place, value: place(value), INNER, VALUES
)


def test_a_good_request_with_odd_values(brief_url, many):
    with httpx.Client(timeout=SECONDS) as client:

        @many
        @given(st.sampled_from([("chat/completions", CHAT), ("completions", COMPLETION)]), CHANGES)
        def check(asked, changes):
            path, good = asked
            body = json.dumps(good | changes).encode()
            answer = client.post(f"{brief_url}/v1/{path}", content=body, headers={"Content-Type": "application/json"})
            assert_documented(answer)

        check()
        assert client.post(f"{brief_url}/v1/completions", json=COMPLETION).status_code == 200


def assert_documented(answer):
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/json"
        [(name, error)] = answer.json().items()
        assert name == "error" and set(error) == {"message", "type", "param", "code"}
        assert error["message"] and "Traceback" not in error["message"]
    elif answer.headers["Content-Type"].startswith("text/event-stream"):
        *events, end, rest = answer.text.split("\n\n")
        assert (end, rest) == ("data: [DONE]", "")
        assert all(json.loads(event.removeprefix("data: ")) for event in events)
    else:
        assert answer.json()["object"]


BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"messages": "\xff\xfe"}',
    "a number of ten thousand digits": b'{"n": ' + b"9" * 10_000 + b"}",
    "lists in lists": b"[" * 100_000,
    "objects in objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a deep schema": json.dumps(CHAT).encode()[:-1]
    + b', "response_format": {"type": "json_schema", "json_schema": {"schema": '
    + b'{"items":' * DEEP
    + b"{}"
    + b"}" * (DEEP + 3),
    "twice the same key": b'{"messages": [], "messages": 5}',
    "compressed": b"\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_request(brief_url, body):
    for path in ("chat/completions", "completions"):
        answer = httpx.post(
            f"{brief_url}/v1/{path}", content=body, headers={"Content-Type": "application/json"}, timeout=SECONDS
        )
        assert answer.status_code == 400
        assert_documented(answer)


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "", "a/b;;;=é"]
)
def test_another_content_type(brief_url, kind):
    answer = httpx.post(
        f"{brief_url}/v1/chat/completions", content=json.dumps(CHAT), headers={b"Content-Type": kind.encode("latin-1")}
    )
    assert answer.status_code == 400
    assert_documented(answer)


def test_other_methods_and_paths(brief_url):
    for method, path, status, allowed in (
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("DELETE", "/v1/completions", 405, "POST"),
        ("PATCH", "/v1/models/guide", 405, "GET"),
        ("TRACE", "/v1/models", 405, "GET"),
        ("GET", "/v1/nothing", 404, None),
        ("POST", "/v1/", 404, None),
        ("GET", "/v1/chat/completions/%00/..%2f..", 404, None),
    ):
        answer = httpx.request(method, f"{brief_url}{path}")
        assert (answer.status_code, answer.headers.get("Allow")) == (status, allowed), (method, path)
        assert_documented(answer)
