"""The front door: settings → model → engine → page → serve. `python app.py --help` lists the settings."""

import os
import runpy
import socket
import sys
from collections.abc import Sequence

from llama_core.errors import UserError
from web.port import claim_port, open_port, url_of
from web.settings import Settings, read_settings

# The other things that the command does, and the modules that do them.
COMMANDS = {"train": "llama_core.training", "space": "web.space", "bench": "benchmarks"}


def main(arguments: Sequence[str]) -> int:
    """Run the app until it is told to end. The exit code: 2 for settings or models that cannot be used, 1 if the engine
    failed (another start may go well)."""
    try:
        settings = read_settings(arguments, os.environ)
        if settings.hosts != 1:
            from web.models.hosts import follow, is_first

            if not is_first(settings):
                return follow(settings)
        with claim_port(settings.host, settings.port) as listener:
            return _run(settings, listener)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(settings: Settings, listener: socket.socket) -> int:
    """Serve the page. The exit code."""
    # Imported here because they take seconds: bad settings and ports in use are refused before.
    from web.console import describe_switching, show_progress, watch
    from web.models.hosts import engines
    from web.models.manager import ModelManager

    with engines(settings) as serve_model, ModelManager(settings, serve=serve_model) as manager:
        loading = manager.start(settings.model, show_progress)
        # And these here: a model that cannot be used is refused before, and the programs are compiled meanwhile.
        from web.api.clients import Clients
        from web.page.page import build_page
        from web.server import build_app, serve

        clients = Clients(manager, settings)
        app = build_app(build_page(manager, settings, clients), manager, settings, clients)
        open_port(listener)
        engine, model = manager.served.engine, manager.served.model
        for note in model.notes:
            print(f"note: {note}", flush=True)
        print(
            f"{settings.title}: {model.name} on {engine.device}, {engine.slots} replies at once of up to "
            f"{engine.max_seq_len} tokens with their prompts, open {url_of(listener)}\n{describe_switching(settings)}",
            flush=True,
        )
        return serve(app, listener, lambda: watch(manager, loading), manager)


def run() -> int:
    """`python app.py`, or the command `glass-llama`: the app, or one of `COMMANDS`, with the arguments behind it."""
    try:
        if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
            module = COMMANDS[sys.argv.pop(1)]
            runpy.run_module(module, run_name="__main__", alter_sys=True)  # ends the process with its own code
        return main(sys.argv[1:])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(run())
