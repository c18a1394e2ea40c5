"""A model's name → a local folder: a folder is taken as it is, a Hub id (`name/repo`, `name/repo@revision`) is fetched.

Only the files that are needed are fetched, with a progress bar; a download that was cut off goes on where it ended.
"""

import contextlib
import errno
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import huggingface_hub
from huggingface_hub import errors

# One of the first kind and all of the others, as far as they exist.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "original/tokenizer.model")
OTHER_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja")
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


class HubError(ValueError):
    """A model that cannot be found or fetched; one line with the reason and the remedy."""


@dataclass(frozen=True)
class Located:
    """Where a model lies on this machine; `name` is for people, with the revision of one from the Hub."""

    folder: Path
    name: str


Progress = Callable[[int, int], None]


class Cancelled(Exception):
    """Raised by a `progress` function to end a download; what was fetched is kept."""


def resolve(name: str, progress: Progress | None = None) -> Located:
    """The folder of `name`. `progress(done, total)` counts bytes of a download, in place of the library's own bars.

    Raises `HubError`, and `Cancelled` if `progress` does.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Located(folder, folder.resolve().name)
    if folder.exists():
        raise HubError(f"{name} is a file; give the folder that it lies in, with its config.json")
    repo_id, revision = _split(name)
    with explained(repo_id, revision):
        return _fetch(repo_id, revision or None, progress)


def sizes(name: str) -> dict[str, int]:
    """The files of a Hub id that `resolve` fetches, with their sizes in bytes. Raises `HubError`."""
    repo_id, revision = _split(name)
    with explained(repo_id, revision):
        info = huggingface_hub.HfApi().model_info(repo_id, revision=revision or None, files_metadata=True)
        found = {entry.rfilename: entry.size or 0 for entry in info.siblings or ()}
        return {file: found[file] for file in _choose(repo_id, found)}


def _split(name: str) -> tuple[str, str]:
    repo_id, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo_id):
        raise HubError(f"there is no folder {name}; give a folder, a Hub id such as name/repo, or random:tiny")
    return repo_id, revision


@contextlib.contextmanager
def explained(repo_id: str, revision: str) -> Iterator[None]:
    """What goes wrong inside becomes a `HubError` that says what to do."""
    try:
        yield
    except (HubError, Cancelled):
        raise
    except Exception as problem:  # which network errors there are depends on the version of huggingface-hub
        _explain(problem, repo_id, revision)


def _fetch(repo_id: str, revision: str | None, progress: Progress | None) -> Located:
    try:
        info = huggingface_hub.HfApi().model_info(repo_id, revision=revision)
    except (errors.HfHubHTTPError, errors.HFValidationError):
        raise
    except Exception as problem:
        return _from_cache(repo_id, revision, problem)
    wanted = _choose(repo_id, [entry.rfilename for entry in info.siblings or ()])
    # By the revision's name, not its hash: a later start without a network finds it in the cache by that name.
    bars = {} if progress is None else {"tqdm_class": _bar_class(progress)}
    return _located(repo_id, huggingface_hub.snapshot_download(
        repo_id, revision=revision, allow_patterns=wanted, **bars
    ))


def _bar_class(progress: Progress) -> type:
    """A stand-in for tqdm's bars, of which the library makes some that count bytes and one that counts files. One bar
    tells `progress` its bytes: the first, which counts what comes over the network."""
    lock, first = threading.RLock(), []

    class Bar:
        def __init__(self, iterable: Any = None, *_: Any, total: float | None = None, initial: int = 0,
                     unit: str = "it", **__: Any):
            self.iterable, self.total, self.n, self.unit, self.disable = iterable, total or 0, initial, unit, False
            if unit == "B" and not first:
                first.append(self)

        def update(self, count: float | None = 1) -> None:
            with lock:
                self.n += count or 0
                if first and first[0] is self:
                    progress(int(self.n), max(int(self.total), int(self.n)))

        def __iter__(self) -> Iterator:
            for entry in self.iterable:
                yield entry
                self.update()

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: Any) -> None:
            pass

        def __getattr__(self, name: str) -> Callable:  # set_description, refresh, close, …: nothing to draw
            return lambda *_, **__: None

        @classmethod
        def get_lock(cls) -> Any:
            return lock

        @classmethod
        def set_lock(cls, _: Any) -> None:
            pass

    return Bar


def _from_cache(repo_id: str, revision: str | None, problem: Exception) -> Located:
    """Without a network, what an earlier run has fetched."""
    try:
        # Asked for more than this, the library misses the files that were left out on purpose.
        return _located(repo_id, huggingface_hub.snapshot_download(
            repo_id, revision=revision, allow_patterns=["config.json"], local_files_only=True
        ))
    except errors.LocalEntryNotFoundError:
        raise HubError(
            f"cannot reach the Hugging Face Hub for {repo_id} ({_first_line(problem)}), and it was never fetched to "
            "this machine; check the network, or give a folder"
        ) from None


def _located(repo_id: str, snapshot: str) -> Located:
    """Snapshots lie in folders named by their revision's hash."""
    return Located(Path(snapshot), f"{repo_id}@{Path(snapshot).name[:7]}")


def _choose(repo_id: str, files: Iterable[str]) -> list[str]:
    """The files to fetch of those in the repository."""
    files = set(files)
    weights = next((file for file in WEIGHTS if file in files), None)
    if weights is None:
        others = sorted(file for file in files if file.endswith((".bin", ".pth", ".pt", ".gguf")))
        found = f"only {others[0]}" if others else "no weights"
        raise HubError(
            f"{repo_id} has {found}; weights are read from safetensors alone (a pickle can run code): choose a "
            "repository that has model.safetensors"
        )
    shards = [file for file in files if SHARD.fullmatch(file)] if weights != WEIGHTS[0] else []
    tokenizer = [file for file in TOKENIZERS if file in files][:1]
    return [weights, *shards, *tokenizer, *(file for file in OTHER_FILES if file in files)]


def _explain(problem: Exception, repo_id: str, revision: str) -> NoReturn:
    page = f"https://huggingface.co/{repo_id}"
    match problem:
        case errors.GatedRepoError():
            text = f"{repo_id} is gated; ask for access on {page}, then set HF_TOKEN to a token of your account"
        case errors.RepositoryNotFoundError():
            text = f"the Hub has no model {repo_id}, or it is private; check the name, or set HF_TOKEN if it is yours"
        case errors.RevisionNotFoundError():
            text = f"{repo_id} has no revision {revision!r}; see {page}/tree/main"
        case OSError(errno=errno.ENOSPC):
            text = f"the disk is full while fetching {repo_id}; free some space or set HF_HOME to another disk"
        case _:
            text = f"cannot fetch {repo_id} ({_first_line(problem)}); start again, the download goes on where it ended"
    raise HubError(text) from None


def _first_line(problem: Exception) -> str:
    return str(problem).strip().partition("\n")[0] or type(problem).__name__
