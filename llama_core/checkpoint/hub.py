"""A model's name → its files on this machine. A folder or a GGUF file is taken as it is; a Hub id (`name/repo`,
`name/repo@revision`, and for GGUF files `name/repo:CHOICE`) is downloaded.

Only the files that are needed are downloaded, the small ones first. A download that was interrupted continues where it
stopped.
"""

import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.file_download import repo_folder_name

from llama_core.checkpoint.download import (
    Cancelled,
    HubError,
    fetch_file,
    fetch_files,
    first_line,
    translate_hub_errors,
)
from llama_core.checkpoint.gguf.files import SUFFIX, choose, files_here, gguf_models, name_of, notes_on_choice
from llama_core.checkpoint.gguf.header import Header, local_file, read_header
from llama_core.checkpoint.gguf.remote import fetch_header
from llama_core.checkpoint.layout import (
    CONFIG,
    INDEX,
    OTHER_FILES,
    TOKENIZERS,
    WEIGHTS,
    describe_missing_weights,
    require_whole,
    shard_names,
)

__all__ = ["Cancelled", "HubError", "Located", "Progress", "list_gguf", "preview", "resolve"]

Progress = Callable[[int, int], None]  # (done, total)
REPOSITORY = r"[\w-][\w.-]*/[\w-][\w.-]*"


@dataclass(frozen=True)
class Located:
    """Where a model lies on this machine. `name` is for people. `id` names the commit of a model from the Hub; None
    for a folder, which is identified by its content. `gguf` are the headers of GGUF files, if it consists of such.
    `notes` are lines for people: which of several models was taken."""

    folder: Path
    name: str
    id: str | None = None
    gguf: tuple[Header, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Snapshot:
    """One commit of a repository, and what is wanted of it. `sizes` are those of all its files; None if the Hub cannot
    be reached and what is wanted is in the cache. `choice` is the model among GGUF files, empty for safetensors."""

    repo_id: str
    revision: str | None
    folder: Path
    sizes: dict[str, int] | None
    models: dict[str, list[str]]
    choice: str = ""
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> list[str]:
        return self.models[self.choice] if self.choice else _weight_names(self.folder)

    def located(self, gguf: tuple[Header, ...]) -> Located:
        commit, chosen = self.folder.name, f":{self.choice}" if self.choice else ""  # a folder per commit in the cache
        return Located(
            self.folder,
            f"{self.repo_id}@{commit[:7]}{chosen}",
            f"{self.repo_id}@{commit[:12]}{chosen}",
            gguf,
            self.notes,
        )


def resolve(
    name: str, before_weights: Callable[[Located], None] | None = None, progress: Progress | None = None
) -> Located:
    """Where `name` lies, downloaded first if it is a Hub id.

    `before_weights(located)` is called when the small files are there (of GGUF files their headers), before a download
    of gigabytes starts. `progress(done, total)` counts megabytes of the download; the first call is at its start.

    Raises `HubError`, `ModelFileError`, and what `before_weights` and `progress` raise (`Cancelled`).
    """
    before_weights = before_weights or (lambda located: None)
    here = _located_here(name)
    if here is not None:
        before_weights(here)
        return here
    repo_id, revision, choice = _split(name)
    with translate_hub_errors(repo_id, revision):
        snapshot = _find_snapshot(repo_id, revision or None, choice)
        headers = _fetch_headers(snapshot)
    before_weights(snapshot.located(headers))
    if snapshot.sizes is not None:
        with translate_hub_errors(repo_id, revision):
            _fetch_weights(snapshot, snapshot.sizes, progress or (lambda done, total: None))
    paths = [snapshot.folder / name for name in snapshot.weights]
    return snapshot.located(
        tuple(replace(header, file=local_file(path)) for header, path in zip(headers, paths, strict=False))
    )


def preview(name: str) -> tuple[Located, int]:
    """Where `name` lies, of a Hub id without the weights, and the size of the weights in bytes.

    Raises `HubError`, `ModelFileError`.
    """
    here = _located_here(name)
    if here is not None:
        paths = [here.folder / name for name in _weight_names(here.folder)] if not here.gguf else ()
        return here, sum(path.stat().st_size for path in paths if path.is_file()) + sum(h.file.size for h in here.gguf)
    repo_id, revision, choice = _split(name)
    with translate_hub_errors(repo_id, revision):
        snapshot = _find_snapshot(repo_id, revision or None, choice)
        sizes = snapshot.sizes
        file_bytes = sum(
            sizes.get(name, 0) if sizes else (snapshot.folder / name).stat().st_size for name in snapshot.weights
        )
        return snapshot.located(_fetch_headers(snapshot)), file_bytes


def list_gguf(name: str) -> list[tuple[str, int]]:
    """The GGUF models of a folder or a repository: the name by which each can be loaded, and its size in bytes. Empty
    where there are safetensors, or none of either.

    Raises `HubError`.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        models = _models_in(folder)
        files = {str(folder / names[0]): names for names in models.values()}
        return [(key, sum((folder / name).stat().st_size for name in names)) for key, names in files.items()]
    repo_id, revision, _ = _split(name)
    with translate_hub_errors(repo_id, revision):
        sizes = _sizes(huggingface_hub.HfApi().model_info(repo_id, revision=revision or None, files_metadata=True))
    place = name.partition(":")[0]
    models = {} if sizes.keys() & {WEIGHTS, INDEX} else gguf_models(sizes)
    return [(f"{place}:{key}", sum(sizes[file] for file in files)) for key, files in models.items()]


def _located_here(name: str) -> Located | None:
    """A folder or a GGUF file on this machine; None for any other name."""
    path = Path(name).expanduser()
    if path.is_file() and path.name.endswith(SUFFIX):
        files = files_here(path)
        return Located(path.parent, name_of(files), gguf=tuple(map(read_header, files)))
    if not path.is_dir():
        return None
    models = _models_in(path)
    if not models:
        require_whole(path)
        return Located(path, path.resolve().name)
    choice = choose(models, "", str(path), is_folder=True)
    files = tuple(local_file(path / name) for name in models[choice])
    return Located(path, name_of(files), gguf=tuple(map(read_header, files)), notes=notes_on_choice(models, choice, ""))


def _models_in(folder: Path) -> dict[str, list[str]]:
    """The GGUF models of a folder; none where there are safetensors, which go first."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    return {} if names & {WEIGHTS, INDEX} else gguf_models(names)


def _split(name: str) -> tuple[str, str, str]:
    """Repository, revision and choice of a Hub id; empty what it does not have."""
    if Path(name).expanduser().exists():
        raise HubError(f"{name} is a file; give the folder that it lies in, with its config.json, or a GGUF file")
    place, _, choice = name.partition(":")
    repo_id, _, revision = place.partition("@")
    if not re.fullmatch(REPOSITORY, repo_id):
        raise HubError(
            f"there is no folder {name}; give a folder, a Hub id such as name/repo, a GGUF file, or random:tiny"
        )
    return repo_id, revision, choice


def _find_snapshot(repo_id: str, revision: str | None, choice: str) -> _Snapshot:
    """The commit of a repository, with its small files downloaded."""
    try:
        info = huggingface_hub.HfApi().model_info(repo_id, revision=revision, files_metadata=True)
    except errors.HFValidationError:
        raise
    except Exception as problem:  # which network errors there are depends on the version of huggingface-hub
        if isinstance(problem, errors.HfHubHTTPError) and problem.response.status_code < 500:
            raise
        return _from_cache(repo_id, revision, choice, problem)
    sizes = _sizes(info)
    models = gguf_models(sizes) if choice or not sizes.keys() & {WEIGHTS, INDEX} else {}
    if choice or models:
        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="model") / "snapshots"
        return _of_gguf(_Snapshot(repo_id, revision, folder / str(info.sha), sizes, models), choice)
    # Asked for by the name of the revision, so that a later start without a network finds it in the cache by that name.
    # Everything after this asks for the commit that the name stood for.
    folder = Path(fetch_files(repo_id, revision, _small_files(repo_id, sizes)))
    return _Snapshot(repo_id, revision, folder, sizes, {})


def _of_gguf(snapshot: _Snapshot, choice: str) -> _Snapshot:
    taken = choose(snapshot.models, choice, snapshot.repo_id)
    return replace(snapshot, choice=taken, notes=notes_on_choice(snapshot.models, taken, choice))


def _sizes(info: huggingface_hub.ModelInfo) -> dict[str, int]:
    return {entry.rfilename: entry.size or 0 for entry in info.siblings or ()}


def _fetch_headers(snapshot: _Snapshot) -> tuple[Header, ...]:
    """The beginnings of the GGUF files, which the download of the whole goes on from; nothing for other formats."""
    found = []
    for name in snapshot.weights if snapshot.choice else ():
        path, size = snapshot.folder / name, (snapshot.sizes or {}).get(name, 0)
        if path.exists():
            found.append(read_header(local_file(path)))
        else:
            found.append(fetch_header(snapshot.repo_id, name, snapshot.folder.name, _blobs(snapshot), size))
    return tuple(found)


def _blobs(snapshot: _Snapshot) -> Path:
    return snapshot.folder.parents[1] / "blobs"


def _fetch_weights(snapshot: _Snapshot, sizes: dict[str, int], progress: Progress) -> None:
    repo_id, folder, weights = snapshot.repo_id, snapshot.folder, snapshot.weights
    blobs = _blobs(snapshot)
    blobs.mkdir(parents=True, exist_ok=True)
    total, done = sum(sizes.get(name, 0) for name in weights), 0
    missing = [name for name in weights if not (folder / name).exists()]
    free, needed = shutil.disk_usage(blobs).free, sum(sizes.get(name, 0) for name in missing)
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
        fetch_file(repo_id, name, folder.name, blobs, arrived)
    fetch_files(repo_id, folder.name, weights)  # finds the blobs and links them
    if snapshot.choice:  # no small file was asked for by the name of the revision
        fetch_files(repo_id, snapshot.revision, weights)


def _from_cache(repo_id: str, revision: str | None, choice: str, problem: Exception) -> _Snapshot:
    """What an earlier run has downloaded, for a start without a network. Raises `HubError` if that is incomplete."""
    try:
        # Asked for all files, or for none in particular, the library would miss those that we never download.
        folder = Path(
            huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=[], local_files_only=True)
        )
        names = [path.relative_to(folder).as_posix() for path in folder.rglob(f"*{SUFFIX}")]
        models = gguf_models(names) if choice or not (folder / CONFIG).exists() else {}
        if models:
            return _of_gguf(_Snapshot(repo_id, revision, folder, None, models), choice)
        if not choice and all((folder / name).exists() for name in _weight_names(folder)):
            return _Snapshot(repo_id, revision, folder, None, {})
        state = "is downloaded only in part"
    except errors.LocalEntryNotFoundError:
        state = "is not downloaded yet"
    raise HubError(
        f"cannot reach the Hugging Face Hub for {repo_id}, which {state}; check the network, or give a folder "
        f"({first_line(problem)})"
    )


def _weight_names(folder: Path) -> list[str]:
    return shard_names(folder) if (folder / INDEX).is_file() else [WEIGHTS]


def _small_files(repo_id: str, files: Iterable[str]) -> list[str]:
    """Which files of a repository to download before its weights. Raises `HubError` if it has no safetensors."""
    files = set(files)
    if not files & {WEIGHTS, INDEX}:
        raise HubError(
            f"{repo_id} has {describe_missing_weights(files)}: choose a repository that has model.safetensors "
            "or a GGUF file"
        )
    index = [] if WEIGHTS in files else [INDEX]
    tokenizer = [file for file in TOKENIZERS if file in files][:1]
    return [*index, *tokenizer, *(file for file in OTHER_FILES if file in files)]
