"""A model's name → a local folder: a folder is taken as it is, a Hub id (`name/repo`, `name/repo@revision`) is fetched.

Only the files that are needed are fetched, with a progress bar; a download that was cut off goes on where it ended.
"""

import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

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


def resolve(name: str) -> Located:
    """The folder of `name`. Raises `HubError`."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Located(folder, folder.resolve().name)
    if folder.exists():
        raise HubError(f"{name} is a file; give the folder that it lies in, with its config.json")
    repo_id, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo_id):
        raise HubError(f"there is no folder {name}; give a folder, a Hub id such as name/repo, or random:tiny")
    try:
        return _fetch(repo_id, revision or None)
    except HubError:
        raise
    except Exception as problem:  # which network errors there are depends on the version of huggingface-hub
        _explain(problem, repo_id, revision)


def _fetch(repo_id: str, revision: str | None) -> Located:
    try:
        info = huggingface_hub.HfApi().model_info(repo_id, revision=revision)
    except (errors.HfHubHTTPError, errors.HFValidationError):
        raise
    except Exception as problem:
        return _from_cache(repo_id, revision, problem)
    wanted = _choose(repo_id, [entry.rfilename for entry in info.siblings or ()])
    # By the revision's name, not its hash: a later start without a network finds it in the cache by that name.
    return _located(repo_id, huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=wanted))


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
