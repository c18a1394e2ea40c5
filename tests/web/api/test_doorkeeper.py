"""What a request to the API passes first: its key, and then a thread in which its body is read."""

import threading

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, field_validator
from starlette.requests import Request

from web.access import key_name
from web.api.doorkeeper import checked_route
from web.api.errors import add_error_handlers
from web.api.schema import ChatRequest


@pytest.fixture
def steps():
    """In which thread each step of a request ran."""
    return []


@pytest.fixture
def ask(steps):
    """Posts to a route that takes a `Greeting`."""

    class Greeting(BaseModel):
        words: str

        @field_validator("words")
        @classmethod
        def note(cls, words):
            steps.append(("read", threading.get_ident()))
            return words

    router = APIRouter(route_class=checked_route(("sesame",)))

    @router.post("/v1/greet")
    async def greet(asked: Greeting) -> str:
        steps.append(("answered", threading.get_ident()))
        return asked.words

    app = FastAPI()
    app.include_router(router)
    add_error_handlers(app)

    @app.middleware("http")
    async def notes(request, call_next):
        request.state.notes = {}
        return await call_next(request)

    with TestClient(app) as client:

        def ask(body, key="sesame", kind="application/json"):
            headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
            answer = client.post("/v1/greet", content=body, headers=headers)
            return answer.status_code, answer.json()

        yield ask


def test_a_body_is_read_once_and_not_on_the_event_loop(ask, steps):
    assert ask(b'{"words": "hello"}') == (200, "hello")
    [(read, thread), (answered, loop)] = steps
    assert (read, answered) == ("read", "answered") and thread != loop


def test_who_has_no_key_is_told_that_first(ask, steps):
    for body in (b'{"words": "hello"}', b'{"words": 5}', b"{"):
        status, answer = ask(body, key="other")
        assert status == 401 and answer["error"]["code"] == "invalid_api_key"
    assert steps == []


@pytest.mark.parametrize(
    ("body", "kind", "param"),
    [
        (b'{"words": 5}', "application/json", "words"),
        (b"{}", "application/json", "words"),
        (b"{", "application/json", None),
        (b"", "application/json", None),
        (b'{"words": "hello"}', "text/plain", None),  # which any page may send from a browser
    ],
)
def test_what_is_wrong_in_a_body_is_named(ask, body, kind, param):
    status, answer = ask(body, kind=kind)
    assert status == 400 and answer["error"]["param"] == param and answer["error"]["message"]


def test_of_a_million_wrong_entries_one_is_told():
    for field in ("messages", "reply_ids"):
        body = f'{{"messages": [{{"role": "user", "content": "x"}}], "{field}": [{"true," * 9}"x", "y"]}}'
        with pytest.raises(ValueError) as problem:
            ChatRequest.model_validate_json(body)
        assert problem.value.error_count() == 1


def test_one_key_has_one_name_however_it_is_sent():
    def name(value):
        return key_name(Request({"type": "http", "headers": [(b"authorization", value.encode())]}))

    assert name("Bearer sésame") == name("bearer  sésame") == name("sésame") != name("Bearer sesame")
    assert name("") == "" and "sesame" not in name("sesame")
