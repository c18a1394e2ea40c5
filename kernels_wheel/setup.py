"""Compile the kernels of the repository around this folder into the wheel."""

import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from llama_core.kernels.build import compile_command, sources_hash  # noqa: E402  # found by the line above


class WithKernels(build_py):
    """The package, with the library and the hash of its sources."""

    def run(self) -> None:
        super().run()
        folder = Path(self.build_lib) / "glass_llama_kernels"
        subprocess.run(compile_command("c++", folder / "kernels.so"), check=True)
        (folder / "sources").write_text(sources_hash())


class AnyPython(bdist_wheel):
    """The library depends on the system and not on the version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class Native(Distribution):
    """A distribution for one system."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": WithKernels, "bdist_wheel": AnyPython}, distclass=Native)
