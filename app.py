"""The front door: settings → model → engine → page → serve. `python app.py --help` lists the settings."""

import os
import sys
from collections.abc import Sequence

from web.console import follow, show_progress
from web.port import PortError, claim_port, open_port, url_of
from web.settings import Settings, SettingsError, read_settings


def main(arguments: Sequence[str]) -> int:
    """Run the app until it is told to end. The exit code: 2 for settings or models that cannot be used."""
    try:
        settings = read_settings(arguments, os.environ)
        listener = claim_port(settings.host, settings.port)
    except (SettingsError, PortError) as problem:
        return _refuse(problem)
    with listener:
        return _start(settings, listener)


def _start(settings: Settings, listener) -> int:
    # Seconds of imports, so they come after all that can be refused at once.
    from llama_core.checkpoint.hub import HubError
    from llama_core.checkpoint.memory_plan import MemoryShortage
    from llama_core.engine.engine import EngineError
    from llama_core.model.config import ConfigError
    from llama_core.runtime.files import ModelFileError
    from llama_core.tokenizer.chat_template import ChatError
    from web.models.manager import ModelManager
    from web.page.page import build_page
    from web.server import build_app, serve

    with ModelManager(settings) as manager:
        try:
            loading = manager.start(settings.model, show_progress)
            app = build_app(build_page(manager, settings), manager)
            open_port(listener)
        except (HubError, ConfigError, ModelFileError, ChatError, EngineError, MemoryShortage, PortError) as problem:
            return _refuse(problem)
        engine = manager.engine
        print(
            f"{settings.title}: {manager.model.name} on {engine.device}, {engine.slots} replies at once of up to "
            f"{engine.max_seq_len} tokens with their prompts, open {url_of(listener)}",
            flush=True,
        )
        serve(app, listener, lambda: follow(loading))
        return 0 if loading.problem is None else _refuse(loading.problem)


def _refuse(problem: Exception) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
