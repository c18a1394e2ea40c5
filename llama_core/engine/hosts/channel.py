"""What one host says to another: messages over TCP. Nothing in them is code, and numbers stay numbers."""

import json
import math
import socket
import struct
from typing import Any, NamedTuple

import numpy as np

from llama_core.errors import UserError

LENGTH = struct.Struct("!I")
MAX_HEADER_BYTES, MAX_ARRAY_BYTES = 1 << 24, 1 << 28
KINDS = "biuf"  # of arrays: truth values and numbers


class LostHost(UserError):
    """Another host that has ended, cannot be reached or says what cannot be; one line about it."""


class Message(NamedTuple):
    """A function to call, and its arguments."""

    call: str
    numbers: tuple[int, ...] = ()
    arrays: tuple[np.ndarray, ...] = ()
    text: str = ""


def send(connection: socket.socket, message: Message) -> None:
    """Raises `LostHost`."""
    shapes = [(array.dtype.str, array.shape) for array in message.arrays]
    header = json.dumps([message.call, [int(number) for number in message.numbers], shapes, message.text]).encode()
    try:
        connection.sendall(LENGTH.pack(len(header)) + header + b"".join(array.tobytes() for array in message.arrays))
    except OSError as problem:
        raise LostHost(f"another host cannot be reached ({problem.strerror or problem})") from None


def receive(connection: socket.socket) -> Message:
    """The next message. Raises `LostHost` when there will be none, or if it is none."""
    [length] = LENGTH.unpack(_read(connection, LENGTH.size, LENGTH.size))
    header = bytes(_read(connection, length, MAX_HEADER_BYTES))
    try:
        call, numbers, shapes, text = json.loads(header)
        kinds = [(np.dtype(str(name)), tuple(map(int, shape))) for name, shape in shapes]
        arguments = tuple(map(int, numbers))
    except (ValueError, TypeError):
        raise LostHost("another host sends what is no message; start the same version on every host") from None
    return Message(str(call), arguments, tuple(_read_array(connection, *kind) for kind in kinds), str(text))


def _read_array(connection: socket.socket, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if dtype.kind not in KINDS or min(shape, default=0) < 0:
        raise LostHost(f"another host sends {dtype} {shape}; start the same version on every host")
    return np.frombuffer(_read(connection, dtype.itemsize * math.prod(shape), MAX_ARRAY_BYTES), dtype).reshape(shape)


def _read(connection: socket.socket, size: int, most: int) -> Any:
    if size > most:
        raise LostHost(f"another host announces {size} bytes where at most {most} may be")
    memory = memoryview(bytearray(size))
    done = 0
    while done < size:
        try:
            count = connection.recv_into(memory[done:])
        except OSError as problem:
            raise LostHost(f"another host cannot be reached ({problem.strerror or problem})") from None
        if count == 0:
            raise LostHost("another host has ended")
        done += count
    return memory
