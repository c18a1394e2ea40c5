"""One big file of the Hub, which goes on where an earlier try ended.

huggingface-hub tries again for some seconds when a connection breaks, but throws away what it has of a file when it
gives up (file_download.py, 2.x). Here it is kept beside the blobs of the library's own cache, which then finds the
whole file as if it had fetched it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import file_download
from huggingface_hub.utils import WeakFileLock, build_hf_headers


def fetch_file(repo_id: str, name: str, commit: str, blobs: Path, arrived: Callable[[int], None]) -> None:
    """Fetch `name` at `commit` into `blobs`; `arrived(bytes)` counts what is there already and what comes.

    Raises the errors of huggingface-hub, `OSError`.
    """
    url = huggingface_hub.hf_hub_url(repo_id, name, revision=commit)
    found = huggingface_hub.get_hf_file_metadata(url)
    if not re.fullmatch(r"[\w-]+", found.etag or "") or found.size is None:
        raise OSError(f"the server does not say what {name} is")
    blob, partial = blobs / found.etag, blobs / f"{found.etag}.partial"
    blobs.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(blobs / f"{found.etag}.lock"):
        if blob.exists():
            arrived(found.size)
            return
        have = partial.stat().st_size if partial.exists() else 0
        with partial.open("ab" if have <= found.size else "wb") as file:
            arrived(file.tell())
            file_download.http_get(
                found.location,
                _Counted(file, arrived),
                resume_size=file.tell(),
                headers=_headers(url, found.location),
                expected_size=found.size,
                tqdm_class=_Silent,
            )
        partial.replace(blob)


def _headers(url: str, location: str) -> dict[str, str]:
    """Our token is for the Hub, not for the storage that it may send us to."""
    headers = build_hf_headers()
    if urlsplit(url).netloc != urlsplit(location).netloc:
        headers.pop("authorization", None)
    return {**headers, "Accept-Encoding": "identity"}  # else sizes are those of something compressed


class _Counted:
    """A file that tells how much is written to it."""

    def __init__(self, file: BinaryIO, arrived: Callable[[int], None]):
        self._file, self._arrived = file, arrived

    def write(self, data: bytes) -> int:
        written = self._file.write(data)
        self._arrived(written)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Silent(huggingface_hub.utils.tqdm):
    """The library's progress bar, not shown: `arrived` feeds ours."""

    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **{**more, "disable": True})
