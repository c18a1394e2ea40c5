"""The header of a GGUF file: its metadata, and where each tensor lies, all of it checked against the size of the file.

The reader of the `gguf` package believes every count and offset, so that a few bytes can ask for terabytes, and makes
NumPy arrays of every string: 2.0 s for the 98 000 of SmolLM2, which take 0.1 s here.

Format: ggml-org/ggml, docs/gguf.md.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from llama_core.checkpoint.layout import CheckpointError
from llama_core.model.checks import quote_value
from llama_core.runtime.files import check_file

Value = str | int | float | bool | list[str] | np.ndarray

MAGIC, VERSIONS = b"GGUF", (2, 3)
# Far above what real files have: 300 keys, 2000 tensors, 600 000 merges; headers of 16 MB.
MAX_KEYS, MAX_TENSORS, MAX_ITEMS, MAX_HEADER, MAX_NAME = 4096, 65536, 2**22, 32 * 1024**2, 65535
MAX_AXES = 4
STRING, ARRAY = 8, 9
FORMATS = {int(kind): kind for kind in GGMLQuantizationType}
NUMBERS = {
    number: np.dtype(kind)
    for number, kind in enumerate(("<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?", "", "", "<u8", "<i8", "<f8"))
    if kind
}


class CutOff(CheckpointError):
    """A file that ends within its header."""


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file on this machine. `size` is that of the whole file, of which a download may have only a part yet."""

    path: Path
    name: str
    size: int


@dataclass(frozen=True)
class TensorInfo:
    """A tensor: its shape with the rows first, the format of its blocks, the byte of the file at which it starts and
    its size in bytes."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int
    size: int


@dataclass(frozen=True)
class Header:
    """What a file says about itself: metadata by key, and its tensors in the order of the file."""

    file: GgufFile
    metadata: dict[str, Value] = field(compare=False)
    tensors: tuple[TensorInfo, ...]


def local_file(path: Path) -> GgufFile:
    """A file that is here as a whole. Raises `ModelFileError` if it cannot be read."""
    check_file(path)
    return GgufFile(path, path.name, path.stat().st_size)


def read_header(file: GgufFile) -> Header:
    """The header of a file. Raises `CheckpointError` for anything but a GGUF file whose tensors all lie within it."""
    check_file(file.path)
    with file.path.open("rb") as stream:
        reader = _Reader(stream, file)
        keys, tensors = _read_counts(reader)
        metadata: dict[str, Value] = {}
        for _ in range(keys):
            key = reader.text("a key", MAX_NAME)
            if key in metadata:
                raise reader.refusal(f"the key {quote_value(key)} is there twice")
            metadata[key] = reader.value(key, reader.whole("<u4"))
        rows = [_read_tensor(reader) for _ in range(tensors)]
    data_start = _aligned(reader, metadata.get("general.alignment", 32))
    return Header(file, metadata, _placed(reader, rows, data_start))


def _read_counts(reader: "_Reader") -> tuple[int, int]:
    """How many keys and how many tensors follow."""
    magic = reader.take(4)
    if magic != MAGIC:
        raise reader.refusal(f"it begins with {magic!r}, expected {MAGIC!r}: this is not a GGUF file")
    version = reader.whole("<u4")
    if version not in VERSIONS:
        is_swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        found = "in the byte order of other processors (big-endian)" if is_swapped else f"of version {version}"
        raise reader.refusal(f"it is {found}; expected version 2 or 3, little-endian")
    tensors, keys = reader.whole("<u8"), reader.whole("<u8")
    if keys > MAX_KEYS or tensors > MAX_TENSORS:
        raise reader.refusal(
            f"it claims {keys} keys and {tensors} tensors; expected at most {MAX_KEYS} and {MAX_TENSORS}"
        )
    return keys, tensors


def _read_tensor(reader: "_Reader") -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
    """The name of a tensor, its shape, its format, and where it starts in the data."""
    name = reader.text("the name of a tensor", MAX_NAME)
    axes = reader.whole("<u4")
    if not 1 <= axes <= MAX_AXES:
        raise reader.refusal(f"tensor {quote_value(name)} has {axes} axes, expected 1 to {MAX_AXES}")
    shape = tuple(reversed([reader.whole("<u8") for _ in range(axes)]))
    number = reader.whole("<u4")
    if number not in FORMATS:
        raise reader.refusal(
            f"tensor {quote_value(name)} is stored in format {number}, which this version of the gguf package does not "
            "know",
            "update the package (pip install -U gguf) or choose another file",
        )
    return name, shape, FORMATS[number], reader.whole("<u8")


def _aligned(reader: "_Reader", alignment: Value) -> int:
    """Where the data starts: the first multiple of the alignment after the header."""
    if not isinstance(alignment, int) or not 1 <= alignment <= 2**20 or alignment & (alignment - 1):
        raise reader.refusal(f"general.alignment is {quote_value(alignment)}; expected a power of two")
    return -(-reader.position // alignment) * alignment


def _placed(
    reader: "_Reader", rows: list[tuple[str, tuple[int, ...], GGMLQuantizationType, int]], data_start: int
) -> tuple[TensorInfo, ...]:
    """The tensors, none of which reaches out of the file or into another one."""
    tensors = []
    for name, shape, kind, offset in rows:
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if shape[-1] % block:
            raise reader.refusal(
                f"tensor {quote_value(name)} has rows of {shape[-1]} numbers, which {kind.name} cannot store"
            )
        tensors.append(TensorInfo(name, shape, kind, data_start + offset, math.prod(shape) // block * block_bytes))
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise reader.refusal("two tensors have the same name")
    end = data_start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.size)):
        if tensor.start < end or tensor.start + tensor.size > reader.file.size:
            what = "lies within another one" if tensor.start < end else "reaches past the end of the file"
            raise reader.refusal(f"tensor {quote_value(tensor.name)} {what} ({reader.file.size} bytes)")
        end = tensor.start + tensor.size
    return tuple(tensors)


class _Reader:
    """Reads a header from its start. Nothing is read, or made room for, before it is known to lie in the file."""

    def __init__(self, stream: BinaryIO, file: GgufFile):
        self.file, self.position = file, 0
        self._stream, self._end = stream, min(file.size, MAX_HEADER)

    def refusal(self, words: str, remedy: str = "download it again, or choose another file") -> CheckpointError:
        return CheckpointError(f"{self.file.name}: {words}; {remedy}")

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        self.require(size)
        data = self._stream.read(size)
        if len(data) != size:
            raise CutOff(f"{self.file.name} ends within its header; download it again")
        self.position += size
        return data

    def require(self, size: int) -> None:
        """Raises unless so many bytes can follow."""
        if self.position + size > self._end:
            if self.file.size > MAX_HEADER:
                raise self.refusal(f"its header has more than {MAX_HEADER} bytes")
            raise self.refusal(f"byte {self.position} asks for {size} more bytes, and the file has {self.file.size}")

    def whole(self, kind: str) -> int:
        """The next number, of a type that NumPy calls `kind`."""
        return int.from_bytes(self.take(int(kind[-1])), "little")

    def text(self, what: str, longest: int = MAX_HEADER) -> str:
        """The next string."""
        size = self.whole("<u8")
        if size > longest:
            raise self.refusal(f"{what} claims {size} bytes")
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise self.refusal(f"{what} is not text in UTF-8") from None

    def value(self, key: str, kind: int) -> Value:
        """The next value, of the type `kind`."""
        if kind == STRING:
            return self.text(quote_value(key))
        if kind == ARRAY:
            return self._array(key)
        if kind not in NUMBERS:
            raise self.refusal(f"{quote_value(key)} has a value of type {kind}, which GGUF does not have")
        [number] = np.frombuffer(self.take(NUMBERS[kind].itemsize), NUMBERS[kind])
        # 1e-5 in float32 is 1e-5 to whoever wrote it, not 0.0000099999997.
        return float(str(number)) if NUMBERS[kind] == np.float32 else number.item()

    def _array(self, key: str) -> list[str] | np.ndarray:
        kind, count = self.whole("<u4"), self.whole("<u8")
        if count > MAX_ITEMS:
            raise self.refusal(f"{quote_value(key)} claims {count} items; expected at most {MAX_ITEMS}")
        if kind == STRING:
            self.require(8 * count)
            what = quote_value(key)
            return [self.text(what) for _ in range(count)]
        if kind not in NUMBERS:
            raise self.refusal(f"{quote_value(key)} is an array of type {kind}; expected numbers or strings")
        return np.frombuffer(self.take(count * NUMBERS[kind].itemsize), NUMBERS[kind])
