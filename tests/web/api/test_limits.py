"""Limits of the settings: what is too much is refused with OpenAI's errors, and what is not is counted."""

import httpx
import openai
import pytest

from web.access import api_keys
from web.limits import SECONDS, ClientLimits, LimitReached, MovingWindow
from web.models.hosts import engines
from web.models.manager import ModelManager
from web.settings import GUIDE, Settings, SettingsError

ASKED = {"model": "guide", "messages": [{"role": "user", "content": "What is temperature?"}], "max_tokens": 3}


class Clock:
    """A clock that the test moves."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_client(serve_with):
    """OpenAI's client of a server with these limits."""
    clients = []

    def open_(key="none", **limits):
        url = serve_with(Settings(model=GUIDE, **limits))
        clients.append(openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0))
        return clients[-1]

    yield open_
    for client in clients:
        client.close()


def test_a_window_moves_and_forgets(clock):
    window = MovingWindow(10, clock)
    window.use("a", 4)
    clock.now += 20
    assert window.wait("a") == 0
    window.use("a", 30)  # known only afterwards: over the limit once
    assert window.wait("a") == SECONDS and window.wait("b") == 0
    clock.now += 59
    assert window.wait("a") == 1
    clock.now += 1
    assert window.wait("a") == 0
    window.use("b", 1)
    assert set(window._used) == {"b"}  # only who used something


def test_a_window_lets_one_in_when_the_oldest_use_is_over(clock):
    window = MovingWindow(3, clock)
    for _ in range(3):
        window.use("a", 1)
        clock.now += 10
    assert window.wait("a") == 30
    clock.now += 30
    assert window.wait("a") == 0


def test_answers_at_the_same_time_are_counted_to_their_end():
    limits = ClientLimits(Settings(max_streams=1))
    with limits.turn("a"), limits.turn("b"), pytest.raises(LimitReached) as refusal, limits.turn("a"):
        pass
    assert refusal.value.code == "too_many_streams"
    with limits.turn("a"):
        pass


def test_a_request_that_is_refused_uses_up_nothing():
    limits = ClientLimits(Settings(max_streams=1, requests_per_minute=2))
    with limits.turn("a"):
        for _ in range(5):
            with pytest.raises(LimitReached, match="try again when one ended"), limits.turn("a"):
                pass
    with limits.turn("a"):
        pass
    with pytest.raises(LimitReached) as refusal, limits.turn("a"):
        pass
    assert refusal.value.code == "rate_limit_exceeded"


def test_too_many_requests_say_when_to_come_back(open_client):
    client = open_client(requests_per_minute=2)
    for _ in range(2):
        client.chat.completions.create(**ASKED)
    with pytest.raises(openai.RateLimitError) as refusal:
        client.chat.completions.create(**ASKED)
    assert refusal.value.code == "rate_limit_exceeded" and refusal.value.type == "rate_limit_error"
    assert 0 < int(refusal.value.response.headers["Retry-After"]) <= SECONDS
    with pytest.raises(openai.RateLimitError):  # another name does not help: no keys are asked for
        client.with_options(api_key="other").chat.completions.create(**ASKED)
    assert len(client.models.list().data) == 1


def test_each_key_has_limits_of_its_own(open_client):
    client = open_client(api_keys="one,two", key="one", tokens_per_minute=4)
    assert client.chat.completions.create(**ASKED).usage.total_tokens > 4
    with pytest.raises(openai.RateLimitError, match="tokens a minute"):
        client.chat.completions.create(**ASKED)
    assert list(client.with_options(api_key="two").chat.completions.create(stream=True, **ASKED))
    with pytest.raises(openai.RateLimitError):  # streamed tokens count, too
        client.with_options(api_key="two").chat.completions.create(**ASKED)


def test_whoever_leaves_a_stream_has_another_one(open_client):
    client = open_client(max_streams=1)
    long = ASKED | {"max_tokens": 150, "temperature": 2}
    with client.chat.completions.create(stream=True, **long) as stream:
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as refusal:
            client.chat.completions.create(**ASKED)
        assert refusal.value.code == "too_many_streams" and refusal.value.response.headers["Retry-After"]
    assert client.with_options(max_retries=20).chat.completions.create(**ASKED).choices


@pytest.mark.parametrize(
    ("limits", "change", "words", "param"),
    [
        ({"max_prompt_tokens": 5}, {}, "at most 5 are taken", "messages"),
        ({"max_messages": 2}, {"messages": ASKED["messages"] * 3}, "3 messages; at most 2", "messages"),
        ({"max_reply_tokens": 2}, {}, "max_tokens is 3; a reply may have at most 2", "max_tokens"),
    ],
)
def test_what_is_too_long_is_refused_with_numbers(open_client, limits, change, words, param):
    with pytest.raises(openai.BadRequestError, match=words) as refusal:
        open_client(**limits).chat.completions.create(**ASKED | change)
    assert refusal.value.param == param


def test_who_names_no_length_gets_the_longest(open_client):
    asked = {name: value for name, value in ASKED.items() if name != "max_tokens"}
    choice = open_client(max_reply_tokens=2).chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "length"


def test_a_large_request_is_refused_in_openais_form(open_client):
    client = open_client(max_request_mb=1)
    with pytest.raises(openai.APIStatusError) as refusal:
        client.chat.completions.create(**ASKED | {"messages": [{"role": "user", "content": "x" * 1_000_001}]})
    assert refusal.value.status_code == 413 and refusal.value.code == "request_too_large"


def test_queue_and_time_are_the_engines(monkeypatch):
    given = {}
    monkeypatch.setattr("web.models.manager.Engine", lambda *_, **limits: given.update(limits))
    settings = Settings(max_queue=3, max_reply_seconds=7)
    manager = ModelManager(settings)
    manager._serve(None, 1, 1)
    assert given == {"max_queue": 3, "time_limit": 7}
    given.clear()
    with engines(settings) as serve:  # as the app has it
        serve(None, 1, 1)
    assert given == {"max_queue": 3, "time_limit": 7}


def test_keys_come_from_a_file(tmp_path, serve_with):
    path = tmp_path / "keys"
    path.write_text("first\n\nsecond \n")
    assert api_keys(Settings(api_keys="zeroth", api_key_file=str(path))) == ("zeroth", "first", "second")
    path.write_text("\n")
    for name in (path, tmp_path / "nothing"):
        with pytest.raises(SettingsError, match="GLASS_LLAMA_API_KEY_FILE"):
            api_keys(Settings(api_key_file=str(name)))


def test_headers_of_strangers_do_not_say_who_asks(serve_with):
    url = serve_with(Settings(model=GUIDE, requests_per_minute=1))
    codes = [
        httpx.post(f"{url}/v1/chat/completions", json=ASKED, headers={"X-Forwarded-For": f"1.2.3.{i}"}).status_code
        for i in range(2)
    ]
    assert codes == [200, 429]
