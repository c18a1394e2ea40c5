"""The API as a server on this machine, over the guide."""

import threading
import time

import gradio as gr
import openai
import pytest
import uvicorn
from quick_compilation import compiled_quickly

from web.api.clients import Clients
from web.models.manager import ModelManager
from web.port import claim_port, open_port, url_of
from web.server import build_app, http_config
from web.settings import GUIDE, Settings


def serve(manager, settings):
    """The address, and what ends the server."""
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Markdown("hello")
    page.queue(api_open=False)
    listener = claim_port("127.0.0.1", 0)
    app = build_app(page, manager, settings, Clients(manager, settings))
    open_port(listener)
    server = uvicorn.Server(http_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.02)

    def end():
        server.should_exit = True
        thread.join()
        listener.close()

    return url_of(listener), end


@pytest.fixture(scope="session")
def manager():
    with ModelManager(Settings(model=GUIDE, slots=2, max_seq_len=512)) as manager:
        with compiled_quickly():
            assert manager.start(GUIDE, lambda *_: None).wait() is None
        yield manager


@pytest.fixture(scope="module")
def url(manager):
    url, end = serve(manager, Settings(model=GUIDE))
    yield url
    end()


@pytest.fixture(scope="session")
def brief_url(manager):
    """A server whose replies have four tokens at most."""
    url, end = serve(manager, Settings(model=GUIDE, max_reply_tokens=4))
    yield url
    end()


@pytest.fixture
def serve_with(manager):
    """Serves with other settings until the test ends: `serve_with(settings)` is the address."""
    ends = []

    def start(settings):
        url, end = serve(manager, settings)
        ends.append(end)
        return url

    yield start
    for end in ends:
        end()


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client
