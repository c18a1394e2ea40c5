"""Chat templates: found in the folder of a checkpoint, run in a process of their own with limits on time, memory and
size of the text (`template_worker.py`)."""

import contextlib
import datetime
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.errors import UserError
from llama_core.runtime.files import read_json, read_text

FOR_TOOLS = "tool_use"  # the name of a template on the Hub
WORKER = Path(__file__).with_name("template_worker.py")
SECONDS_TO_START, SECONDS_TO_RENDER = 60.0, 5.0
# Without these Python does not start on Windows, or does not find its libraries.
WINDOWS_VARIABLES = ("SYSTEMROOT", "WINDIR", "PATH", "PATHEXT", "TEMP", "TMP")


class ChatError(UserError):
    """A conversation or chat template that cannot be turned into a prompt; the message says why."""


class TemplateRefusal(ChatError):
    """A conversation that the chat template refuses by its own words."""


def find_template(folder: Path) -> str | None:
    """The text of `chat_template.jinja`, else the `chat_template` of `tokenizer_config.json`, else None. An empty
    template is none.

    Raises `ModelFileError` for files that cannot be read, `ChatError` for a template that is not text.
    """
    own_file = folder / "chat_template.jinja"
    own = read_text(own_file) if own_file.is_file() else ""
    if own.strip():
        return own
    found = _in_tokenizer_config(folder)
    if isinstance(found, dict):
        found = plain_template(found)
    if found is not None and not isinstance(found, str):
        raise ChatError(f"{folder / 'tokenizer_config.json'}: chat_template is a {type(found).__name__}, expected text")
    return found if found and found.strip() else None


def find_for_tools(folder: Path) -> str | None:
    """The template for prompts with tools, where `tokenizer_config.json` has one of its own for them (Hermes 2 and 3).
    Raises `ModelFileError` as `find_template` does."""
    found = _in_tokenizer_config(folder)
    own = found.get(FOR_TOOLS) if isinstance(found, dict) else None
    return own if isinstance(own, str) and own.strip() else None


def _in_tokenizer_config(folder: Path) -> Any:
    """A template, or several by name."""
    tokenizer_config = folder / "tokenizer_config.json"
    found = read_json(tokenizer_config).get("chat_template") if tokenizer_config.is_file() else None
    if isinstance(found, list):
        return {str(row.get("name")): row.get("template") for row in found if isinstance(row, dict)}
    return found


def plain_template(templates: Mapping[str, object]) -> object:
    """The template for plain chat among named ones: "default", else the first that is not for tools or documents
    (`tool_use`, `rag`), else the first."""
    plain = [name for name in templates if name not in (FOR_TOOLS, "rag")]
    return templates.get("default", next((templates[name] for name in [*plain, *templates]), None))


class Template:
    """One chat template and the process that renders it. The process starts now, and again if it had to be killed.

    Raises `ChatError` for a template that is not Jinja.
    """

    def __init__(self, source: str, seconds: float = SECONDS_TO_RENDER):
        self._source, self._seconds = source, seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def render(self, *contexts: Mapping[str, object]) -> list[str]:
        """The text for each context (the template's variables); the time limit is for all together.

        Raises `ChatError` if the template refuses a context, fails or does not end.
        """
        now = datetime.datetime.now().isoformat()
        with self._lock:
            answer = self._ask(self._running(), [{**context, "now": now} for context in contexts], self._seconds)
        if "refused" in answer:
            words = " ".join(answer["refused"].split())
            raise TemplateRefusal(f"the model's chat template refuses this conversation: {words}")
        if "failed" in answer:
            words = " ".join(answer["failed"].split())
            raise ChatError(f"the model's chat template failed ({words}); choose another model")
        return answer["texts"]

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; a new one if it is gone, whoever ended it."""
        process = self._process
        if process is not None and process.poll() is None:
            return process
        self._stop()
        return self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_worker_environment(),
        )
        self._stop = weakref.finalize(self, _stop, process)
        answer = self._ask(process, self._source, SECONDS_TO_START)
        if "texts" not in answer:
            self._stop()
            words = " ".join(next(iter(answer.values())).split())
            raise ChatError(f"the chat template is not valid Jinja ({words}); correct or remove it")
        return process

    def _ask(self, process: subprocess.Popen[bytes], request: object, seconds: float) -> dict[str, Any]:
        """Send one line of JSON, read one line back. A process that does not answer in time is killed, which ends the
        wait for its line."""
        assert process.stdin and process.stdout, "the worker is started with pipes"
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            return json.loads(line)
        self._stop()
        self._process = None
        return {"failed": f"it did not end within {seconds:g} seconds, or used up its memory"}


def _worker_environment() -> dict[str, str]:
    """What the worker sees of our environment: where Python packages lie, and on Windows what Python needs there. No
    token and no password is among it."""
    names = WINDOWS_VARIABLES if sys.platform == "win32" else ()
    paths = os.pathsep.join(path for path in sys.path if path)
    return {name: os.environ[name] for name in names if name in os.environ} | {"PYTHONPATH": paths}


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # a request may still lie in the buffer, and its reader is gone
            if pipe is not None:
                pipe.close()
