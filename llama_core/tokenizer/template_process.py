"""Chat templates: found in a checkpoint's folder, run in a process of their own, bounded in time, memory and size."""

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

WORKER = Path(__file__).with_name("template_worker.py")
SECONDS_TO_START, SECONDS_TO_RENDER = 60.0, 5.0


class ChatError(UserError):
    """A conversation or chat template that cannot be turned into a prompt; the message says why."""


def find_template(folder: Path) -> str | None:
    """The text of `chat_template.jinja`, else of the one in `tokenizer_config.json` (of several, the default).

    Raises `ModelFileError` for files that cannot be read, `ChatError` for what is no text.
    """
    own_file = folder / "chat_template.jinja"
    if own_file.is_file():
        return read_text(own_file)
    tokenizer_config = folder / "tokenizer_config.json"
    found = read_json(tokenizer_config).get("chat_template") if tokenizer_config.is_file() else None
    if isinstance(found, list):  # several, with names
        named = {str(row.get("name")): row.get("template") for row in found if isinstance(row, dict)}
        found = named.get("default")
    if found is not None and not isinstance(found, str):
        raise ChatError(f"{tokenizer_config}: chat_template is a {type(found).__name__}, expected text")
    return found


class Template:
    """One chat template and the process that runs it (`template_worker.py`), started now and again when it was ended.

    Raises `ChatError` for what is not Jinja.
    """

    def __init__(self, source: str, seconds: float = SECONDS_TO_RENDER):
        self._source, self._seconds = source, seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._start()

    def render(self, *several: Mapping[str, Any]) -> list[str]:
        """The text for each of these sets of values, in one time limit. Raises `ChatError` when the template refuses
        one, fails or does not end."""
        now = datetime.datetime.now().isoformat()
        with self._lock:
            if self._process is None:
                self._start()
            answer = self._ask([{**values, "now": now} for values in several], self._seconds)
        if "refused" in answer:
            words = " ".join(answer["refused"].split())
            raise ChatError(f"the model's chat template refuses this conversation: {words}")
        if "failed" in answer:
            words = " ".join(answer["failed"].split())
            raise ChatError(f"the model's chat template failed ({words}); choose another model")
        return answer["texts"]

    def _start(self) -> None:
        # Isolated: of our environment it knows where Python packages lie and nothing else.
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": paths},
        )
        self._end = weakref.finalize(self, _end, self._process)
        answer = self._ask(self._source, SECONDS_TO_START)
        if "texts" not in answer:
            self._end()
            words = " ".join(next(iter(answer.values())).split())
            raise ChatError(f"the chat template is not valid Jinja ({words}); correct or remove it")

    def _ask(self, request: Any, seconds: float) -> dict[str, Any]:
        """One line there, one line back. A process that does not answer is ended, which ends the wait."""
        process, too_late = self._process, threading.Timer(seconds, self._process.kill)
        too_late.start()
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        finally:
            too_late.cancel()
        if line.endswith(b"\n"):
            return json.loads(line)
        self._end()
        self._process = None
        return {"failed": f"it did not end within {seconds:g} seconds, or used up its memory"}


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # what was not sent has no reader any more
            pipe.close()
