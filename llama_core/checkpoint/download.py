"""Downloads files of the Hub: small ones, a big one or its beginning, and continues where an earlier try stopped. What
goes wrong is said as a `HubError`.

huggingface-hub 2.4 retries for some seconds when a connection breaks, and deletes the partial file when it gives up
(file_download.py, `_download_to_tmp_and_move`). Here the partial file is kept, beside the blobs of the
library's own cache. Once it is whole, the library takes it for a file that it downloaded itself.
"""

import contextlib
import errno
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import errors, file_download
from huggingface_hub.utils import WeakFileLock, build_hf_headers

from llama_core.errors import UserError
from llama_core.runtime.files import ModelFileError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class HubError(UserError):
    """A model that cannot be found or downloaded; one line with the reason and the remedy."""


class Cancelled(Exception):
    """Raised by a `progress` function to stop a download. What has arrived is kept."""


def fetch_files(repo_id: str, revision: str | None, names: list[str]) -> str:
    """Download small files, or link those that `fetch_file` has fetched. The path of the folder of this commit.

    Raises the errors of huggingface-hub, `OSError`.
    """
    with _quiet():
        return huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=names)


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


def fetch_file(repo_id: str, name: str, commit: str, blobs: Path, arrived: Callable[[int], None]) -> None:
    """Download `name` at `commit` into the folder `blobs`. `arrived(bytes)` is told what an earlier try has left, then
    what comes.

    Raises the errors of huggingface-hub, `OSError`.
    """
    _fetch(repo_id, name, commit, blobs, arrived, None)


def fetch_start(repo_id: str, name: str, commit: str, blobs: Path, size: int) -> Path:
    """Download the first `size` bytes of a file, or more where an earlier try has left more. The path of what is here;
    `fetch_file` goes on from it.

    Raises the errors of huggingface-hub, `OSError`.
    """
    return _fetch(repo_id, name, commit, blobs, lambda size: None, size)


def _fetch(
    repo_id: str, name: str, commit: str, blobs: Path, arrived: Callable[[int], None], wanted: int | None
) -> Path:
    url = huggingface_hub.hf_hub_url(repo_id, name, revision=commit)
    found = huggingface_hub.get_hf_file_metadata(url)
    etag = found.etag or ""
    if not re.fullmatch(r"[\w-]+", etag) or found.size is None:
        raise OSError(f"the server does not say what {name} is")
    blob, partial = blobs / etag, blobs / f"{etag}.partial"
    end = found.size if wanted is None else min(wanted, found.size)
    blobs.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(blobs / f"{etag}.lock"):
        if blob.exists():
            arrived(found.size)
            return blob
        resumable = partial.exists() and partial.stat().st_size <= found.size
        with _CountedFile(partial, "ab" if resumable else "wb", arrived) as file:
            arrived(file.tell())
            if file.tell() < end:
                file_download.http_get(
                    found.location,
                    file,
                    resume_size=file.tell(),
                    headers=_headers(url, found.location) | ({} if wanted is None else {"Range": f"bytes=0-{end - 1}"}),
                    expected_size=end,
                    tqdm_class=_HiddenProgressBar,
                )
        if wanted is not None:
            return partial
        return partial.replace(blob)


def _headers(url: str, location: str) -> dict[str, str]:
    """Our token goes to the Hub, and not to the storage host to which it may redirect."""
    headers = build_hf_headers()
    if urlsplit(url).netloc != urlsplit(location).netloc:
        headers.pop("authorization", None)
    return {**headers, "Accept-Encoding": "identity"}  # else the sizes are those of compressed data


class _CountedFile(io.BufferedWriter):
    """A file that reports the size of everything that is written to it."""

    def __init__(self, path: Path, mode: str, arrived: Callable[[int], None]):
        super().__init__(io.FileIO(path, mode))
        self._arrived = arrived

    def write(self, data: "ReadableBuffer", /) -> int:
        written = super().write(data)
        self._arrived(written)
        return written


class _HiddenProgressBar(huggingface_hub.utils.tqdm):
    """Takes the place of the library's progress bar: `arrived` feeds ours."""

    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **{**more, "disable": True})


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
            return f"cannot fetch {repo_id} ({first_line(problem)}); start again, it goes on where it ended"


def first_line(problem: Exception) -> str:
    """What an error of another library says, for a message of one line."""
    return str(problem).strip().partition("\n")[0] or type(problem).__name__
