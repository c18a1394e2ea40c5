"""The HTTP side with a real client: health, headers, and who may ask."""

from types import SimpleNamespace

import gradio as gr
import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from web.api.clients import Clients
from web.languages import TranslatedBlocks
from web.limits import LOGINS_PER_MINUTE
from web.server import build_app, head
from web.settings import Settings

STATS = SimpleNamespace(slots=2, busy=1, queued=0)


@pytest.fixture
def engine():
    return SimpleNamespace(healthy=True, ready=True, stats=lambda: STATS)


@pytest.fixture
def serve(engine):
    """Clients of pages with these settings, by the address that a browser at the same machine uses."""
    clients = []

    def open_(from_address="testclient", **settings):
        with TranslatedBlocks(analytics_enabled=False) as page:
            gr.Markdown("hello")
        page.queue(api_open=False)
        told = Settings(**settings)
        app = build_app(page, engine, told, Clients(engine, told))

        @app.post("/read")
        async def read(request: Request):
            return len(await request.body())

        @app.get("/who")
        async def who(request: Request):
            return request.client.host

        ours = ("/read", "/who")
        app.router.routes.sort(
            key=lambda route: getattr(route, "path", "") not in ours
        )  # before the page, which is "/"
        clients.append(TestClient(app, base_url="http://127.0.0.1:7860", client=(from_address, 1)))
        return clients[-1].__enter__()

    yield open_
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve):
    return serve()


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
    assert head("en").count("<script>") == head("en").count("</script>") == 1


def test_the_page_travels_compressed_in_the_language_that_was_asked_for(client):
    for asked, send in (({"Accept-Language": "de-DE"}, "Senden"), ({"Cookie": "glass_llama_language=zh"}, "发送")):
        answer = client.get("/", headers=asked)
        assert answer.headers["content-encoding"] == "gzip" and send in answer.text
        assert "Jump to latest" not in answer.text
    assert "Jump to latest" in client.get("/").text
    assert client.get("/vendor/markdown.js").headers["content-encoding"] == "gzip"
    refused = client.get("/", headers={"Host": "evil.example", "Accept-Language": "de"})
    assert refused.status_code == 421 and "Dieser Server antwortet nicht" in refused.text


def test_other_origins_are_not_let_in(client):
    for path in ("/", "/health", "/gradio_api/info"):
        answer = client.get(path, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


def test_origins_of_the_list_may_read_answers_without_cookies(serve):
    client = serve(cors_origins="https://app.example, https://b.example:8443")
    for origin in ("https://app.example", "https://b.example:8443"):
        answer = client.get("/health", headers={"Origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in answer.headers
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "authorization, content-type"
        assert client.options("/v1/chat/completions", headers=asked).status_code == 200
    assert "access-control-allow-origin" not in client.get("/health", headers={"Origin": "https://x.example"}).headers


def who_asks(app_client, forwarded):
    return app_client.get("/who", headers={"X-Forwarded-For": forwarded}).json()


def test_only_trusted_proxies_say_who_asks(serve):
    """The test's own client connects as "testclient", so its address is given."""
    for proxies, forwarded, expected in (
        ("", "1.2.3.4", "10.0.0.1"),
        ("10.0.0.0/24", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.0/24", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),  # what stands before was written by the client
        ("10.0.1.0/24", "1.2.3.4", "10.0.0.1"),
    ):
        assert who_asks(serve(trusted_proxies=proxies, from_address="10.0.0.1"), forwarded) == expected


def test_the_page_asks_for_a_name_and_password(serve):
    client = serve(login="ada:löve:lace, bob:builder")
    assert "auth_required" in client.get("/").text
    assert client.post("/gradio_api/queue/join", json={}).status_code == 401
    for name, password, code in (("ada", "löve:lace", 200), ("ada", "builder", 400), ("bob", "lace", 400)):
        assert client.post("/login", data={"username": name, "password": password}).status_code == code
    assert client.get("/config").status_code == 200


def test_passwords_cannot_be_guessed_one_after_another(serve):
    client = serve(login="ada:lovelace")
    guess = {"username": "ada", "password": "wrong"}
    codes = [client.post(f"/login{'/' * (i % 2)}", data=guess).status_code for i in range(LOGINS_PER_MINUTE)]
    assert set(codes) == {400}
    answer = client.post("/login", data={"username": "ada", "password": "lovelace"})
    assert answer.status_code == 429 and 0 < int(answer.headers["Retry-After"]) <= 60
    assert client.get("/").status_code == 200


def test_a_page_under_a_path_of_a_proxy_says_so(serve):
    assert '"root":"http://127.0.0.1:7860/chat"' in serve(root_path="/chat").get("/").text.replace(" ", "")


def test_the_page_is_there(client):
    answer = client.get("/")
    assert answer.status_code == 200 and "text/html" in answer.headers["content-type"]


PATHS = ("/", "/health", "/gradio_api/info", "/source/llama_core/engine/engine.py", "/nothing")


def test_a_page_that_gives_its_own_name_our_address_is_not_answered(client):
    """DNS rebinding: to the browser it is then of the same origin as ours."""
    for name in ("evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil", "[x", ""):
        for path in PATHS:
            answer = client.get(path, headers={"Host": name, "Origin": f"http://{name}"})
            assert answer.status_code == 421 and "--allowed-hosts" in answer.text
            assert answer.headers["content-type"].startswith("text/plain") and "nosniff" in answer.headers.values()
        assert client.post("/gradio_api/queue/join", headers={"Host": name}, json={}).status_code == 421
        for_programs = client.get("/v1/models", headers={"Host": name})
        assert (for_programs.status_code, for_programs.json()["error"]["code"]) == (421, "other_host")


def test_this_machine_is_answered_by_each_of_its_names(client):
    for name in ("localhost", "LocalHost:7860", "127.0.0.1", "[::1]:7860", "[::1]", "localhost.:80"):
        assert client.get("/health", headers={"Host": name}).status_code == 200


def test_other_names_are_those_of_the_settings(serve):
    client = serve(host="192.168.1.5", allowed_hosts="Chat.example, other.example")
    for name, code in (("192.168.1.5:80", 200), ("chat.example", 200), ("other.example:1", 200), ("x.example", 421)):
        assert client.get("/health", headers={"Host": name}).status_code == code
    assert serve(host="0.0.0.0").get("/health", headers={"Host": "any.example"}).status_code == 200
    assert serve(host="0.0.0.0", allowed_hosts="a.b").get("/health", headers={"Host": "c.d"}).status_code == 421
    assert serve(allowed_hosts="*").get("/health", headers={"Host": "c.d"}).status_code == 200


def test_there_are_no_websockets_below_v1(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/models"):
        pass


def in_pieces(count):
    """A body that does not say its length."""
    for _ in range(count):
        yield b"x" * 100_000


def test_what_is_too_large_is_refused_before_it_is_parsed(serve):
    client = serve(max_request_mb=1)
    for path in ("/read", "/gradio_api/queue/join", "/v1/completions"):
        for body in (b"{" * 1_000_001, in_pieces(11)):
            answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 413 and "larger than 1 MB, the most" in answer.text
            if path.startswith("/v1"):
                assert answer.json()["error"]["code"] == "request_too_large"
            else:
                assert set(answer.json()) == {"detail"}  # what Gradio's scripts show


def test_what_is_not_too_large_is_read(serve):
    client = serve(max_request_mb=1)
    for body in (b"x" * 1_000_000, in_pieces(10)):
        answer = client.post("/read", content=body)
        assert (answer.status_code, answer.json()) == (200, 1_000_000)
