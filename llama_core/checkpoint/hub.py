"""A model's name → a local folder: a folder is taken as it is, a Hub id (`name/repo`, `name/repo@revision`) is fetched.

Only the files that are needed are fetched, the small ones first; a download that was cut off goes on where it ended.
"""

import contextlib
import errno
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import huggingface_hub
from huggingface_hub import errors

from llama_core.checkpoint.download import fetch_file
from llama_core.errors import UserError
from llama_core.runtime.files import ModelFileError, read_json

# One of the first kind and all of the others, as far as they exist.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "original/tokenizer.model")
OTHER_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja")
SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")  # in the folder of the index, nowhere else

Progress = Callable[[int, int], None]


class HubError(UserError):
    """A model that cannot be found or fetched; one line with the reason and the remedy."""


class Cancelled(Exception):
    """Raised by a `progress` function to end a download; what has come is kept."""


@dataclass(frozen=True)
class Located:
    """Where a model lies on this machine; `name` is for people, with the revision of one from the Hub."""

    folder: Path
    name: str


def resolve(
    name: str, before_weights: Callable[[Path], None] | None = None, progress: Progress | None = None
) -> Located:
    """The folder of `name`. `before_weights(folder)` sees the small files, before a download of gigabytes starts.
    `progress(done, total)` counts megabytes of a download, from the start on, when the total is known.

    Raises `HubError`, and what `before_weights` and `progress` raise (`Cancelled`).
    """
    look = before_weights or (lambda folder: None)
    folder = Path(name).expanduser()
    if folder.is_dir():
        look(folder)
        return Located(folder, folder.resolve().name)
    repo_id, revision = _split(name)
    with _in_words(repo_id, revision):
        folder, sizes = _fetch_small_files(repo_id, revision or None)
    look(folder)
    if sizes is not None:
        with _in_words(repo_id, revision):
            _fetch_weights(repo_id, folder, sizes, progress or (lambda done, total: None))
    return Located(folder, f"{repo_id}@{folder.name[:7]}")  # snapshots lie in folders named by their commit


def preview(name: str) -> tuple[Path, int]:
    """The folder of `name` as far as it is there without its weights, and the bytes of those. Raises `HubError`."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder, sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    repo_id, revision = _split(name)
    with _in_words(repo_id, revision):
        folder, sizes = _fetch_small_files(repo_id, revision or None)
        weights = _weights(folder)
        return folder, sum(sizes.get(name, 0) if sizes else (folder / name).stat().st_size for name in weights)


def _split(name: str) -> tuple[str, str]:
    if Path(name).expanduser().exists():
        raise HubError(f"{name} is a file; give the folder that it lies in, with its config.json")
    repo_id, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo_id):
        raise HubError(f"there is no folder {name}; give a folder, a Hub id such as name/repo, or random:tiny")
    return repo_id, revision


def _fetch_small_files(repo_id: str, revision: str | None) -> tuple[Path, dict[str, int] | None]:
    """The snapshot's folder and the sizes of all files of the repository; no sizes when it is the cached one."""
    try:
        info = huggingface_hub.HfApi().model_info(repo_id, revision=revision, files_metadata=True)
    except errors.HFValidationError:
        raise
    except Exception as problem:  # which network errors there are depends on the version of huggingface-hub
        if isinstance(problem, errors.HfHubHTTPError) and problem.response.status_code < 500:
            raise
        return _from_cache(repo_id, revision, problem), None
    sizes = {entry.rfilename: entry.size or 0 for entry in info.siblings or ()}
    # By the revision's name: a later start without a network finds it in the cache by that name. All that follows is
    # by the commit that it has led to.
    return Path(_snapshot(repo_id, revision, _small_files(repo_id, sizes))), sizes


def _snapshot(repo_id: str, revision: str | None, files: list[str]) -> str:
    with _quiet():
        return huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=files)


def _fetch_weights(repo_id: str, folder: Path, sizes: dict[str, int], progress: Progress) -> None:
    weights = _weights(folder)
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


def weight_names(folder: Path) -> list[str]:
    """The safetensors files that the index of a folder asks for. Raises `ModelFileError`."""
    weight_map = read_json(folder / WEIGHTS[1]).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFileError(f"{folder / WEIGHTS[1]} has no weight_map; download it again")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if not SHARD.fullmatch(name):
            raise ModelFileError(
                f"{folder / WEIGHTS[1]} names {name[:80]!r}; expected safetensors files of the same folder"
            )
    return names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's own progress bars, which would be drawn over ours."""
    if huggingface_hub.utils.are_progress_bars_disabled():
        yield
        return
    huggingface_hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        huggingface_hub.utils.enable_progress_bars()


def _from_cache(repo_id: str, revision: str | None, problem: Exception) -> Path:
    """Without a network, what an earlier run has fetched."""
    try:
        # Asked for more than this, the library misses the files that were left out on purpose.
        folder = Path(
            huggingface_hub.snapshot_download(
                repo_id, revision=revision, allow_patterns=["config.json"], local_files_only=True
            )
        )
        if all((folder / name).exists() for name in _weights(folder)):
            return folder
        state = "only a part of it was"
    except errors.LocalEntryNotFoundError:
        state = "it was never"
    raise HubError(
        f"cannot reach the Hugging Face Hub for {repo_id} ({_first_line(problem)}), and {state} fetched to this "
        "machine; check the network, or give a folder"
    )


def _weights(folder: Path) -> list[str]:
    return weight_names(folder) if (folder / WEIGHTS[1]).is_file() else [WEIGHTS[0]]


def _small_files(repo_id: str, files: Iterable[str]) -> list[str]:
    """What to fetch of a repository before its weights."""
    files = set(files)
    weights = next((file for file in WEIGHTS if file in files), None)
    if weights is None:
        others = sorted(file for file in files if file.endswith((".bin", ".pth", ".pt", ".gguf")))
        found = f"only {others[0]}" if others else "no weights"
        raise HubError(
            f"{repo_id} has {found}; weights are read from safetensors alone (a pickle can run code): choose a "
            "repository that has model.safetensors"
        )
    index = [weights] if weights != WEIGHTS[0] else []
    tokenizer = [file for file in TOKENIZERS if file in files][:1]
    return [*index, *tokenizer, *(file for file in OTHER_FILES if file in files)]


@contextlib.contextmanager
def _in_words(repo_id: str, revision: str) -> Iterator[None]:
    try:
        yield
    except (HubError, ModelFileError, Cancelled):
        raise
    except Exception as problem:
        _explain(problem, repo_id, revision)


def _explain(problem: Exception, repo_id: str, revision: str) -> NoReturn:
    page = f"https://huggingface.co/{repo_id}"
    match problem:
        case errors.GatedRepoError():
            text = f"{repo_id} is gated; ask for access on {page}, then set HF_TOKEN to a token of your account"
        case errors.RepositoryNotFoundError():
            text = f"the Hub has no model {repo_id}, or it is private; check the name, or set HF_TOKEN if it is yours"
        case errors.RevisionNotFoundError():
            text = f"{repo_id} has no revision {revision!r}; see {page}/tree/main"
        case errors.HfHubHTTPError() if problem.response.status_code == 401:
            text = f"the Hub does not accept the token in HF_TOKEN for {repo_id}; make a new one or unset it"
        case errors.HfHubHTTPError() if problem.response.status_code == 403:
            text = f"the token in HF_TOKEN may not read {repo_id}; give it that right in your account's settings"
        case OSError(errno=errno.ENOSPC):
            text = f"the disk is full while fetching {repo_id}; free some space or set HF_HOME to another disk"
        case _:
            text = f"cannot fetch {repo_id} ({_first_line(problem)}); start again, it goes on where it ended"
    raise HubError(text) from None


def _first_line(problem: Exception) -> str:
    return str(problem).strip().partition("\n")[0] or type(problem).__name__
