"""The page with an engine that needs no model, as a program of its own: `fake_app.py PORT PACE [warm|cold] [on|off]`,
the last for loading other models."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

HOSTILE = (
    """<script>document.title='owned'</script><img src=x onerror="document.title='owned'">
![a](https://evil.example/steal.png) <form action="https://evil.example"><input name=a></form>
[click](javascript:document.title='owned') <a href="https://evil.example">there</a>
\u202eright to left\u202c שלום עולם <iframe src="https://evil.example"></iframe>
| a | b
|--
```unclosed **bold _and
"""
    + "x" * 3000
)


def main(port, pace, state="warm", switching="on"):
    from fake_engine import FakeEngine

    from web.api.clients import Clients
    from web.console import watch
    from web.models.manager import ModelManager
    from web.page.page import build_page
    from web.port import claim_port, open_port, url_of
    from web.server import build_app, serve
    from web.settings import Settings

    settings = Settings(max_seq_len=4096, slots=2, switching=switching)

    manager = ModelManager(settings, load, lambda *_: FakeEngine(pace, hostile=HOSTILE, cold=state == "cold"))
    loading = manager.start("random:fake", lambda *_: None)
    listener = claim_port("127.0.0.1", port)
    clients = Clients(manager, settings)
    page = build_page(manager, settings, clients)
    app = build_app(page, manager, settings, clients)

    add_controls(app, manager, page)
    open_port(listener)
    print(url_of(listener), flush=True)
    serve(app, listener, lambda: watch(manager, loading), manager)


def load(name, dtype, progress, check, download, **_):
    """As `load_checkpoint`: one model that takes a minute, one that cannot be loaded, and others."""
    from fake_engine import fake_model

    from llama_core.sampling.params import SamplingParams

    if name == "us/slow":
        for megabyte in range(1000):
            time.sleep(0.05)
            download(megabyte, 1000)
    if name == "random:135M":
        raise ValueError("this one cannot be loaded; choose another")
    model = fake_model(name.removeprefix("random:"))
    model.defaults = SamplingParams(max_new_tokens=40, temperature=0.3 if "tiny" in name else 0.7)
    return model


def add_kind_of_model(app, manager):
    from fake_engine import TrainedChat

    from llama_core.tokenizer.chat_template import Chat

    @app.post("/fake/chats/{answer}")
    def chats(answer: str):
        model = manager.served.model
        model.chat = (TrainedChat if answer == "yes" else Chat)(model.tokenizer)
        return answer


def add_controls(app, manager, page):
    """Routes for the tests: what the engine was asked, how fast it is, and whether its model was trained to chat."""
    add_kind_of_model(app, manager)

    @app.get("/fake")
    def fake():
        return [
            {
                "prompt": reply.prompt_ids,
                "tokens": reply.token_ids,
                "cached": reply.cached_tokens,
                "ended": reply.ended,
                "updates": [params.temperature for _, params in reply.changes],
            }
            for reply in manager.served.engine.generations
        ]

    @app.post("/fake/pace/{pace}")
    def hurry(pace: int):
        manager.served.engine.pace = pace
        return {"pace": pace}

    @app.post("/fake/hold/{place}")
    def hold(place: int):
        manager.served.engine.hold = place or None
        return SimpleNamespace(place=place).__dict__

    @app.post("/fake/heat/{programs}")
    def heat(programs: int):
        manager.served.engine.heat(programs)
        return manager.served.engine.compiled

    @app.get("/fake/kept/{word}")
    def kept(word: str):
        sessions = page.state_holder.session_data.values()
        return {"sessions": len(sessions), "with_word": sum(word in repr(vars(session)) for session in sessions)}

    # The page takes every path that is left: ours go before it.
    app.router.routes.sort(key=lambda route: not getattr(route, "path", "").startswith("/fake"))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:])
