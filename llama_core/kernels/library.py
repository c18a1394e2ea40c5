"""The library of native kernels in this process: loaded and registered with XLA once, for as long as the process runs.

That is the one state of a process here, because XLA's table of such functions is one per process too. `NATIVE.ready`
says whether they are there; `linear` asks it while programs are traced.
"""

import ctypes
import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import jax

from llama_core.kernels.build import KernelError, find_library
from llama_core.runtime.cores import usable_cores

AUTO, ON, OFF = "auto", "on", "off"
CHOICES = (AUTO, ON, OFF)
MULTIPLY, ATTEND = "glass_multiply", "glass_attend"
INSTRUCTION_SETS = ("plain", "AVX2", "AVX-512", "AMX")
MOST_THREADS = 64


@dataclasses.dataclass
class NativeKernels:
    """The loaded library, if there is one."""

    library: ctypes.CDLL | None = None
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def ready(self) -> bool:
        """Whether the kernels can be called."""
        return self.library is not None

    @property
    def instructions(self) -> str:
        """The best instruction set of this processor that the kernels know."""
        return INSTRUCTION_SETS[self._loaded().glass_instructions()]

    @property
    def takes_many_rows(self) -> bool:
        """Whether products of the many rows of a prompt are faster here too than those of XLA."""
        return self.instructions == "AMX"

    def load(self, find: Callable[[], Path] = find_library) -> None:
        """Find or compile the library, load and register it. Does nothing when that is done. Raises `KernelError`."""
        with self.lock:
            if self.library is not None:
                return
            path = find()
            try:
                library = ctypes.CDLL(str(path))
            except OSError as problem:
                raise KernelError(f"native kernels cannot be loaded ({problem}); delete {path}") from None
            for name in (MULTIPLY, ATTEND):
                jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
            self.library = library
            self.set_threads(usable_cores())

    def set_threads(self, count: int) -> None:
        """How many threads work on one call, the calling one included."""
        self._loaded().glass_set_threads(min(count, MOST_THREADS))

    def _loaded(self) -> ctypes.CDLL:
        if self.library is None:
            raise KernelError("the native kernels are not loaded; call load first")
        return self.library


NATIVE = NativeKernels()


def prepare_kernels(choice: str = AUTO) -> str | None:
    """Get the native kernels ready for programs that are compiled from now on: "auto" if possible, "on" or fail, or
    "off". The reason, in one line, if "auto" has none; not on machines that compute on something else than a CPU.

    Raises `KernelError` for "on" without kernels and for another word.
    """
    if choice not in CHOICES:
        raise KernelError(f"kernels is {choice!r}; expected {' or '.join(CHOICES)}")
    if choice == OFF or jax.devices()[0].platform != "cpu":
        return None
    try:
        NATIVE.load()
    except KernelError as problem:
        if choice == ON:
            raise
        return str(problem)
    return None
