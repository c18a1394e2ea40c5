"""What operators see: figures that Prometheus can read, and a line for each request."""

import json
import re
import time
from pathlib import Path

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from web.settings import GUIDE, Settings

BOARD = Path(__file__).parents[3] / "docs" / "grafana.json"
WORDS = "What is zyxwvut?"
ASKED = {"model": "guide", "messages": [{"role": "user", "content": WORDS}], "max_tokens": 5}


def figures(url):
    """Each figure's values by its name and labels, as Prometheus reads them."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


@pytest.fixture
def url(serve_with):
    return serve_with(Settings(model=GUIDE, log="json", api_keys="hush-hush", requests_per_minute=2))


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="hush-hush", max_retries=0) as client:
        yield client


def test_figures_and_lines_tell_of_each_request(url, client, manager, capsys):
    before = figures(url)
    usage = client.chat.completions.create(**ASKED).usage
    chunks = list(client.chat.completions.create(stream=True, **ASKED))
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(**ASKED)
    assert httpx.get(f"{url}/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
    httpx.get(f"{url}/anything?{WORDS}")

    after = figures(url)
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    assert grown["glass_llama_generated_tokens_total",] == 2 * usage.completion_tokens
    read = grown["glass_llama_prompt_tokens_total",] + grown["glass_llama_cached_tokens_total",]
    assert read == 2 * usage.prompt_tokens
    assert grown["glass_llama_http_requests_total", "/v1/chat/completions", "200"] == 2
    assert grown["glass_llama_http_requests_total", "/v1/chat/completions", "429"] == 1
    assert grown["glass_llama_refusals_total", "rate_limit_exceeded"] == 1
    assert grown["glass_llama_refusals_total", "invalid_api_key"] == 1
    assert grown["glass_llama_replies_total", chunks[-1].choices[0].finish_reason] == 2
    assert grown["glass_llama_time_to_first_token_seconds_count",] == 2
    assert grown["glass_llama_time_per_token_seconds_count",] == 2
    assert (after["glass_llama_slots",], after["glass_llama_ready",]) == (manager.stats().slots, 1)
    assert not any("anything" in part for name in after for part in name)

    printed, lines = printed_lines(capsys, "/v1/chat/completions", 3)
    assert "zyxwvut" not in printed and "hush" not in printed and "wrong" not in printed
    chats = [line for line in lines if line["path"] == "/v1/chat/completions"]
    assert [line["status"] for line in chats] == [200, 200, 429]
    assert all(line["completion_tokens"] == usage.completion_tokens for line in chats[:2])
    assert all(line["seconds"] >= line["first_token_seconds"] > 0 for line in chats[:2])
    assert chats[2]["code"] == "rate_limit_exceeded" and chats[0]["client"] == "127.0.0.1"
    assert len({line["request_id"] for line in lines}) == len(lines)


def printed_lines(capsys, path, count):
    """What was printed, and its lines, once there are so many of this path: each comes after its answer."""
    printed = ""
    for _ in range(3000):
        printed += capsys.readouterr().out
        lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        if sum(line["path"] == path for line in lines) >= count:
            return printed, lines
        time.sleep(0.01)
    raise AssertionError(f"not {count} lines of {path}: {printed}")


def test_the_answer_has_the_id_of_its_line(url, capsys):
    answer = httpx.get(f"{url}/health")
    _, [line] = printed_lines(capsys, "/health", 1)
    assert answer.headers["X-Request-Id"] == line["request_id"] and line["path"] == "/health"


def test_the_board_shows_figures_that_there_are(url):
    names = {re.sub("_(total|bucket|count|sum|created)$", "", name) for name, *_ in figures(url)}
    families = {
        family.name for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    }  # a counter with labels has no sample before it is counted
    shown = [target["expr"] for panel in json.loads(BOARD.read_text())["panels"] for target in panel["targets"]]
    used = {re.sub("_(total|bucket)$", "", name) for text in shown for name in re.findall(r"glass_llama_\w+", text)}
    assert used and used <= names | families
