"""The blocks of quantised tensors as matrices of small numbers: the same numbers, in our order of bytes.

Layouts: ggml-org/ggml, src/ggml-common.h; what they mean: src/ggml-quants.c. A scale that is a product of two (half
precision times 6 or 8 bits) is exact in float32, and so is its product with a number of at most 6 bits.
"""

from collections.abc import Callable

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from llama_core.model.quantization import Int4Matrix, Int8Matrix, QuantizedMatrix, pack_nibbles

MAX_HALF = 65504.0


def small_matrix(blocks: np.ndarray, kind: GGMLQuantizationType) -> QuantizedMatrix | None:
    """Rows of blocks, uint8 [rows, bytes], as a matrix of small numbers; None for formats that have no exact one."""
    read = READERS.get(kind)
    if read is None:
        return None
    columns = blocks.shape[1] // GGML_QUANT_SIZES[kind][1] * GGML_QUANT_SIZES[kind][0]
    with np.errstate(invalid="ignore", over="ignore"):  # what is no number is refused by who takes the scales
        return read(blocks.reshape(len(blocks), -1, GGML_QUANT_SIZES[kind][1]), columns)


def _half(bytes_of_block: np.ndarray) -> np.ndarray:
    """The number in the last two bytes, float16 [rows, blocks]."""
    return np.ascontiguousarray(bytes_of_block).view("<f2")[..., 0]


def _flat(groups: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(groups).reshape(len(groups), -1)


def _q8_0(blocks: np.ndarray, columns: int) -> Int8Matrix:
    return Int8Matrix(_flat(blocks[..., 2:]).view(np.int8), _half(blocks[..., :2]), columns=columns)


def _q4_0(blocks: np.ndarray, columns: int) -> Int4Matrix:
    """d · (q − 8) = d · q − 8 d, which half precision holds but for the largest scales."""
    scales = _half(blocks[..., :2])
    if np.abs(scales.astype(np.float32)).max(initial=0) * 8 > MAX_HALF:
        scales = scales.astype(np.float32)
    return Int4Matrix(_flat(blocks[..., 2:]), scales, scales * scales.dtype.type(-8), columns=columns)


def _q4_1(blocks: np.ndarray, columns: int) -> Int4Matrix:
    return Int4Matrix(_flat(blocks[..., 4:]), _half(blocks[..., :2]), _half(blocks[..., 2:4]), columns=columns)


def _fives(blocks: np.ndarray, start: int) -> np.ndarray:
    """Numbers of 5 bits, uint8 [rows, blocks, 32]: the fifth ones are in the 4 bytes from `start` on, the others
    follow."""
    high = np.unpackbits(blocks[..., start : start + 4], axis=-1, bitorder="little")
    low = blocks[..., start + 4 :]
    return np.concatenate([low & 15, low >> 4], axis=-1) | high << 4


def _q5_0(blocks: np.ndarray, columns: int) -> Int8Matrix:
    quants = _fives(blocks, 2).astype(np.int8) - 16
    return Int8Matrix(_flat(quants), _half(blocks[..., :2]), columns=columns)


def _q5_1(blocks: np.ndarray, columns: int) -> Int8Matrix:
    quants = _fives(blocks, 4).astype(np.int8)
    return Int8Matrix(_flat(quants), _half(blocks[..., :2]), _half(blocks[..., 2:4]), columns=columns)


def _scales_and_minimums(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of the 8 groups of each block of Q4_K and Q5_K, float32 [rows, groups]: two numbers in half precision times
    6 bits each, which lie in 12 bytes, those of the last four groups in two pieces."""
    packed = blocks[..., 4:16]
    first, second, third = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = np.concatenate([first & 63, third & 15 | first >> 6 << 4], axis=-1)
    minimums = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], axis=-1)
    wide = [_half(blocks[..., at : at + 2]).astype(np.float32)[..., None] for at in (0, 2)]
    return _flat(wide[0] * scales), _flat(-wide[1] * minimums)


def _k_nibbles(packed: np.ndarray) -> np.ndarray:
    """Of blocks of 256 the lower four bits, uint8 [rows, blocks, 4, 2, 32]: byte i of 32 has those of number i in its
    low bits and of number i + 32 in its high bits."""
    parts = packed.reshape(*packed.shape[:-1], 4, 1, 32)
    return np.concatenate([parts & 15, parts >> 4], axis=-2)


def _q4_k(blocks: np.ndarray, columns: int) -> Int4Matrix:
    scales, minimums = _scales_and_minimums(blocks)
    return Int4Matrix(pack_nibbles(_flat(_k_nibbles(blocks[..., 16:]))), scales, minimums, columns=columns)


def _q5_k(blocks: np.ndarray, columns: int) -> Int8Matrix:
    scales, minimums = _scales_and_minimums(blocks)
    fifth = blocks[..., 16:48][..., None, :] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    low = _k_nibbles(blocks[..., 48:])
    quants = (low | fifth.reshape(low.shape) << 4).astype(np.int8)
    return Int8Matrix(_flat(quants), scales, minimums, columns=columns)


def _q6_k(blocks: np.ndarray, columns: int) -> Int8Matrix:
    """In groups of 16. Of each half of a block, 128 numbers, 64 bytes have the lower four bits and 32 the upper two."""
    low = blocks[..., :128].reshape(*blocks.shape[:-1], 2, 1, 64)
    low = np.concatenate([low & 15, low >> 4], axis=-2).reshape(*blocks.shape[:-1], 2, 4, 32)
    high = blocks[..., 128:192].reshape(*blocks.shape[:-1], 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    quants = (low | high << 4).astype(np.int8) - 32
    scales = _half(blocks[..., 208:210]).astype(np.float32)[..., None] * blocks[..., 192:208].view(np.int8)
    return Int8Matrix(_flat(quants), _flat(scales), columns=columns)


READERS: dict[GGMLQuantizationType, Callable[[np.ndarray, int], QuantizedMatrix]] = {
    GGMLQuantizationType.Q8_0: _q8_0,
    GGMLQuantizationType.Q4_0: _q4_0,
    GGMLQuantizationType.Q4_1: _q4_1,
    GGMLQuantizationType.Q5_0: _q5_0,
    GGMLQuantizationType.Q5_1: _q5_1,
    GGMLQuantizationType.Q4_K: _q4_k,
    GGMLQuantizationType.Q5_K: _q5_k,
    GGMLQuantizationType.Q6_K: _q6_k,
}
