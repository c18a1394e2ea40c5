"""Downloads one big file of the Hub, and continues where an earlier try stopped.

huggingface-hub 2.4 retries for some seconds when a connection breaks, and deletes the partial file when it gives up
(file_download.py, `_download_to_tmp_and_move`). Here the partial file is kept, beside the blobs of the
library's own cache. Once it is whole, the library takes it for a file that it downloaded itself.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import file_download
from huggingface_hub.utils import WeakFileLock, build_hf_headers

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def fetch_file(repo_id: str, name: str, commit: str, blobs: Path, arrived: Callable[[int], None]) -> None:
    """Download `name` at `commit` into the folder `blobs`. `arrived(bytes)` is told what an earlier try has left, then
    what comes.

    Raises the errors of huggingface-hub, `OSError`.
    """
    url = huggingface_hub.hf_hub_url(repo_id, name, revision=commit)
    found = huggingface_hub.get_hf_file_metadata(url)
    etag = found.etag or ""
    if not re.fullmatch(r"[\w-]+", etag) or found.size is None:
        raise OSError(f"the server does not say what {name} is")
    blob, partial = blobs / etag, blobs / f"{etag}.partial"
    blobs.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(blobs / f"{etag}.lock"):
        if blob.exists():
            arrived(found.size)
            return
        resumable = partial.exists() and partial.stat().st_size <= found.size
        with _CountedFile(partial, "ab" if resumable else "wb", arrived) as file:
            arrived(file.tell())
            file_download.http_get(
                found.location,
                file,
                resume_size=file.tell(),
                headers=_headers(url, found.location),
                expected_size=found.size,
                tqdm_class=_HiddenProgressBar,
            )
        partial.replace(blob)


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
