"""A model's name → a folder on this machine. A folder is taken as it is; a Hub id (`name/repo`, `name/repo@revision`)
is downloaded.

Only the files that are needed are downloaded, the small ones first. A download that was interrupted continues where it
stopped.
"""

import contextlib
import errno
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors

from llama_core.checkpoint.download import fetch_file
from llama_core.checkpoint.layout import (
    INDEX,
    OTHER_FILES,
    TOKENIZERS,
    WEIGHTS,
    describe_missing_weights,
    require_whole,
    shard_names,
)
from llama_core.errors import UserError
from llama_core.runtime.files import ModelFileError

Progress = Callable[[int, int], None]  # (done, total)


class HubError(UserError):
    """A model that cannot be found or downloaded; one line with the reason and the remedy."""


class Cancelled(Exception):
    """Raised by a `progress` function to stop a download. What has arrived is kept."""


@dataclass(frozen=True)
class Located:
    """Where a model lies on this machine. `name` is for people. `id` names the commit of a model from the Hub; None
    for a folder, which is identified by its content."""

    folder: Path
    name: str
    id: str | None = None


def resolve(
    name: str, before_weights: Callable[[Path], None] | None = None, progress: Progress | None = None
) -> Located:
    """The folder of `name`, downloaded first if it is a Hub id.

    `before_weights(folder)` is called when the small files are there, before a download of gigabytes starts.
    `progress(done, total)` counts megabytes of the download; the first call is at its start.

    Raises `HubError`, and what `before_weights` and `progress` raise (`Cancelled`).
    """
    before_weights = before_weights or (lambda folder: None)
    folder = Path(name).expanduser()
    if folder.is_dir():
        require_whole(folder)
        before_weights(folder)
        return Located(folder, folder.resolve().name)
    repo_id, revision = _split(name)
    with translate_hub_errors(repo_id, revision):
        folder, sizes = _fetch_small_files(repo_id, revision or None)
    before_weights(folder)
    if sizes is not None:
        with translate_hub_errors(repo_id, revision):
            _fetch_weights(repo_id, folder, sizes, progress or (lambda done, total: None))
    commit = folder.name  # the library's cache has a folder per commit
    return Located(folder, f"{repo_id}@{commit[:7]}", f"{repo_id}@{commit[:12]}")


def preview(name: str) -> tuple[Path, int]:
    """The folder of `name`, of a Hub id without the weights, and the size of the weights in bytes.

    Raises `HubError`, `ModelFileError`.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        require_whole(folder)
        return folder, sum(
            (folder / name).stat().st_size for name in _weight_names(folder) if (folder / name).is_file()
        )
    repo_id, revision = _split(name)
    with translate_hub_errors(repo_id, revision):
        folder, sizes = _fetch_small_files(repo_id, revision or None)
        weights = _weight_names(folder)
        return folder, sum(sizes.get(name, 0) if sizes else (folder / name).stat().st_size for name in weights)


def _split(name: str) -> tuple[str, str]:
    """Repository and revision of a Hub id; the revision is empty where the id has none."""
    if Path(name).expanduser().exists():
        raise HubError(f"{name} is a file; give the folder that it lies in, with its config.json")
    repo_id, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo_id):
        raise HubError(f"there is no folder {name}; give a folder, a Hub id such as name/repo, or random:tiny")
    return repo_id, revision


def _fetch_small_files(repo_id: str, revision: str | None) -> tuple[Path, dict[str, int] | None]:
    """The folder of the snapshot, and the size of every file of the repository. The sizes are None if the Hub cannot be
    reached and the folder is a complete one from the cache."""
    try:
        info = huggingface_hub.HfApi().model_info(repo_id, revision=revision, files_metadata=True)
    except errors.HFValidationError:
        raise
    except Exception as problem:  # which network errors there are depends on the version of huggingface-hub
        if isinstance(problem, errors.HfHubHTTPError) and problem.response.status_code < 500:
            raise
        return _from_cache(repo_id, revision, problem), None
    sizes = {entry.rfilename: entry.size or 0 for entry in info.siblings or ()}
    # Asked for by the name of the revision, so that a later start without a network finds it in the cache by that name.
    # Everything after this asks for the commit that the name stood for.
    return Path(_snapshot(repo_id, revision, _small_files(repo_id, sizes))), sizes


def _snapshot(repo_id: str, revision: str | None, files: list[str]) -> str:
    with _quiet():
        return huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=files)


def _fetch_weights(repo_id: str, folder: Path, sizes: dict[str, int], progress: Progress) -> None:
    weights = _weight_names(folder)
    total, done = sum(sizes.get(name, 0) for name in weights), 0
    missing = [name for name in weights if not (folder / name).exists()]
    free, needed = shutil.disk_usage(folder).free, sum(sizes.get(name, 0) for name in missing)
    if needed > free:
        raise HubError(
            f"{repo_id} needs {needed / 1e9:.1f} GB more and the disk with {folder} has {free / 1e9:.1f} GB free; free "
            "some space or set HF_HOME to another disk"
        )

    def arrived(size: int) -> None:
        nonlocal done
        done += size
        progress(done // 10**6, max(1, total // 10**6))

    arrived(total - needed)
    for name in missing:
        fetch_file(repo_id, name, folder.name, folder.parents[1] / "blobs", arrived)
    _snapshot(repo_id, folder.name, weights)  # finds the blobs and links them


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the library's own progress bars, which would be drawn over ours."""
    if huggingface_hub.utils.are_progress_bars_disabled():
        yield
        return
    huggingface_hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        huggingface_hub.utils.enable_progress_bars()


def _from_cache(repo_id: str, revision: str | None, problem: Exception) -> Path:
    """What an earlier run has downloaded, for a start without a network. Raises `HubError` if that is incomplete."""
    try:
        # Asked for all files, the library would miss those that we never download.
        folder = Path(
            huggingface_hub.snapshot_download(
                repo_id, revision=revision, allow_patterns=["config.json"], local_files_only=True
            )
        )
        if all((folder / name).exists() for name in _weight_names(folder)):
            return folder
        state = "only a part of it was"
    except errors.LocalEntryNotFoundError:
        state = "it was never"
    raise HubError(
        f"cannot reach the Hugging Face Hub for {repo_id} ({_first_line(problem)}), and {state} fetched to this "
        "machine; check the network, or give a folder"
    )


def _weight_names(folder: Path) -> list[str]:
    return shard_names(folder) if (folder / INDEX).is_file() else [WEIGHTS]


def _small_files(repo_id: str, files: Iterable[str]) -> list[str]:
    """Which files of a repository to download before its weights. Raises `HubError` if it has no safetensors."""
    files = set(files)
    if not files & {WEIGHTS, INDEX}:
        raise HubError(
            f"{repo_id} has {describe_missing_weights(files)}: choose a repository that has model.safetensors"
        )
    index = [] if WEIGHTS in files else [INDEX]
    tokenizer = [file for file in TOKENIZERS if file in files][:1]
    return [*index, *tokenizer, *(file for file in OTHER_FILES if file in files)]


@contextlib.contextmanager
def translate_hub_errors(repo_id: str, revision: str) -> Iterator[None]:
    """Turns the errors of the library, the network and the disk into `HubError`s with a remedy."""
    try:
        yield
    except (HubError, ModelFileError, Cancelled):
        raise
    except Exception as problem:
        raise HubError(_explain(problem, repo_id, revision)) from None


def _explain(problem: Exception, repo_id: str, revision: str) -> str:
    page = f"https://huggingface.co/{repo_id}"
    match problem:
        case errors.GatedRepoError():
            return f"{repo_id} is gated; ask for access on {page}, then set HF_TOKEN to a token of your account"
        case errors.RepositoryNotFoundError():
            return f"the Hub has no model {repo_id}, or it is private; check the name, or set HF_TOKEN if it is yours"
        case errors.RevisionNotFoundError():
            return f"{repo_id} has no revision {revision!r}; see {page}/tree/main"
        case errors.HfHubHTTPError() if problem.response.status_code == 401:
            return f"the Hub does not accept the token in HF_TOKEN for {repo_id}; make a new one or unset it"
        case errors.HfHubHTTPError() if problem.response.status_code == 403:
            return f"the token in HF_TOKEN may not read {repo_id}; give it that right in your account's settings"
        case OSError(errno=errno.ENOSPC):
            return f"the disk is full while fetching {repo_id}; free some space or set HF_HOME to another disk"
        case _:
            return f"cannot fetch {repo_id} ({_first_line(problem)}); start again, it goes on where it ended"


def _first_line(problem: Exception) -> str:
    return str(problem).strip().partition("\n")[0] or type(problem).__name__
