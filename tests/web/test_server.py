"""The HTTP side with a real client: health, headers, and who may ask."""

from types import SimpleNamespace

import gradio as gr
import pytest
from fastapi.testclient import TestClient

from web.server import build_app, head

STATS = SimpleNamespace(slots=2, busy=1, queued=0)


@pytest.fixture
def engine():
    return SimpleNamespace(healthy=True, ready=True, stats=lambda: STATS)


@pytest.fixture
def client(engine):
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Markdown("hello")
    page.queue(api_open=False)
    with TestClient(build_app(page, engine)) as client:
        yield client


def test_health_is_what_the_engine_says(client, engine):
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"ok": True, "status": "ready", "slots": 2, "busy": 1, "queued": 0}
    for healthy, status in ((True, "starting"), (False, "failed")):
        engine.healthy, engine.ready = healthy, False
        answer = client.get("/health")
        assert answer.status_code == 503 and answer.json()["ok"] is False and answer.json()["status"] == status


def test_nothing_may_be_loaded_from_other_hosts(client):
    policy = client.get("/").headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["connect-src"] == "'self'" and rules["form-action"] == "'none'"
    assert rules["frame-src"] == rules["object-src"] == "'none'"
    assert "http" not in " ".join(value for name, value in rules.items() if name != "frame-ancestors")


def test_our_own_code_is_shown_and_nothing_else(client):
    answer = client.get("/source/llama_core/sampling/sampler.py")
    assert answer.status_code == 200 and 'id="L1"' in answer.text
    for name in ("web/settings.py", "llama_core/../app.py", "..%2Fapp.py", "llama_core/nothing.py"):
        assert client.get(f"/source/{name}").status_code == 404


def test_nothing_of_the_pages_scripts_can_end_its_script_element():
    assert head().count("<script>") == head().count("</script>") == 1


def test_other_origins_are_not_let_in(client):
    for path in ("/", "/health", "/gradio_api/info"):
        answer = client.get(path, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


def test_the_page_is_there(client):
    answer = client.get("/")
    assert answer.status_code == 200 and "text/html" in answer.headers["content-type"]
