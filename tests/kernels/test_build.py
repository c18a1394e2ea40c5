"""The library is compiled once, whoever comes; without a compiler everything runs, slower, and one line says so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoints import reference_model, write_tokenizer

from llama_core.kernels import build
from llama_core.kernels.build import KernelError, find_library
from llama_core.kernels.library import NativeKernels
from llama_core.runtime.cores import usable_cores

ROOT = Path(__file__).parents[2]

# A compiler that takes its time and notes how it is called; what it makes is a copy of a file.
COMPILER = """#!/bin/sh
echo "$@" >> {log}
sleep 1
for output; do :; done
cp {file} "$output"
"""
FIND = """
import pathlib, sys
from llama_core.kernels.build import find_library
print(find_library(pathlib.Path(sys.argv[1])))
"""
ASK = """
import sys
from llama_core import Engine, SamplingParams, load_checkpoint
from llama_core.checkpoint.weights import forms
from llama_core.runtime.forms import Form
forms.LARGE_MODEL = 0
auto, small = (load_checkpoint(sys.argv[1], quantize=quantize) for quantize in ("auto", "q8"))
with Engine(small, slots=1, max_seq_len=32, form=Form((8, 16), 2, 4)) as engine:
    print(len(list(engine.submit([1, 2, 3], SamplingParams(temperature=0.0, max_new_tokens=4, ignore_eos=True)))))
for model in (auto, small):
    print(model.weights, *model.notes, sep="|")
"""


def compiler():
    found = next(filter(None, map(shutil.which, build.COMPILERS)), None)
    if found is None:
        pytest.skip("no C++ compiler")
    return found


def install_copier(folder, file):
    """An environment in which this is the only compiler, and where it notes its calls."""
    tools, log = folder / "bin", folder / "log"
    tools.mkdir()
    (tools / "c++").write_text(COMPILER.format(log=log, file=file))
    (tools / "c++").chmod(0o755)
    return {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(folder)}, log


def test_two_processes_at_once_compile_once(tmp_path):
    (environment, log), cache = install_copier(tmp_path, __file__), tmp_path / "cache"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", FIND, str(cache)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert ended[0][0] == ended[1][0] and Path(ended[0][0].strip()).is_file()
    assert len(log.read_text().splitlines()) == 1
    assert sum(errors.count("Compiling native kernels") for _, errors in ended) == 1
    assert sorted(path.suffix for path in cache.iterdir()) == [".lock", ".so"]


def test_without_a_compiler_everything_runs_and_one_line_says_so(tmp_path):
    """The checkpoint is in bfloat16."""
    reference_model(intermediate_size=128).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    write_tokenizer(tmp_path / "model")
    environment = {"PATH": "", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", ASK, str(tmp_path / "model")]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    tokens, *loaded = ended.stdout.splitlines()
    weights, notes = zip(*(line.split("|") for line in loaded), strict=True)
    assert tokens == "4" and weights == ("float32", "q8, 8.5 bits a weight")
    assert all("no C++ compiler" in note and "install g++" in note for note in notes)


def test_progress_is_told_while_they_are_compiled_and_not_when_they_are_there(tmp_path, monkeypatch):
    (tmp_path / "c++").write_text('#!/bin/sh\nfor output; do :; done\necho library > "$output"\n')
    (tmp_path / "c++").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(build, "_installed", lambda: None)
    steps = []
    for _ in range(2):
        find_library(tmp_path / "cache", lambda *step: steps.append(step))
    assert steps == [(0, 1), (1, 1)]


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch):
    (tmp_path / "c++").write_text("#!/bin/sh\necho 'kernels.cc:1: error: no such language' >&2\nexit 1\n")
    (tmp_path / "c++").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(KernelError, match="error: no such language"):
        find_library(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.so"))


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    compiler()
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelError, match="cannot be kept in .*file"):
        find_library(tmp_path / "file" / "cache")


def test_a_damaged_library_is_named(tmp_path):
    (tmp_path / "broken.so").write_bytes(b"not a library")
    kernels = NativeKernels()
    with pytest.raises(KernelError, match=r"delete .*broken\.so"):
        kernels.load(lambda: tmp_path / "broken.so")
    assert not kernels.ready


def test_other_sources_are_another_library(monkeypatch):
    before = build.sources_hash()
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    assert build.sources_hash() != before


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("max 100000", None), ("1 100000", 1)])
def test_a_quota_limits_the_threads(tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(quota)
    everything = usable_cores(tmp_path / "nowhere")
    assert usable_cores(tmp_path) == (everything if cores is None else cores)


@pytest.mark.parametrize(("quota", "cores"), [("100000", 1), ("-1", None)])
def test_so_does_one_of_the_older_kind(tmp_path, quota, cores):
    (tmp_path / "cpu").mkdir()
    for name, value in (("quota", quota), ("period", "100000")):
        (tmp_path / "cpu" / f"cpu.cfs_{name}_us").write_text(f"{value}\n")
    assert usable_cores(tmp_path) == (cores or usable_cores(tmp_path / "nowhere"))


def test_a_space_limits_the_threads(tmp_path):
    space = {"SPACE_ID": "ada/chat", "CPU_CORES": "1"}
    assert usable_cores(tmp_path, space) == 1 and usable_cores(tmp_path, {**space, "CPU_CORES": "9999"}) < 9999
    assert usable_cores(tmp_path, {"CPU_CORES": "1"}) == usable_cores(tmp_path, {})


LOAD = "from llama_core.kernels import NATIVE, prepare_kernels; print(prepare_kernels('on'), NATIVE.ready)"


def test_a_wheel_stands_in_for_the_compiler(tmp_path):
    """Compiling takes ten seconds, so the wheel gets a copy of what the same command has made before."""
    pytest.importorskip("setuptools", "77")
    compiler()
    environment, log = install_copier(tmp_path, find_library())
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    tree = tmp_path / "tree"  # setuptools leaves a build folder behind
    shutil.copytree(
        ROOT / "kernels_wheel", tree / "kernels_wheel", ignore=shutil.ignore_patterns("build", "*.egg-info")
    )
    shutil.copytree(ROOT / "llama_core", tree / "llama_core")
    made = [sys.executable, "-m", "pip", "wheel", str(tree / "kernels_wheel"), *options, "-w", str(tmp_path)]
    subprocess.run(made, check=True, cwd=tree, env=os.environ | {"PATH": environment["PATH"]})
    (wheel,) = tmp_path.glob("*.whl")
    expected = " ".join(build.compile_command("c++", tmp_path)[1:-1])
    copied = str(tree / build.MAIN.relative_to(ROOT))
    assert "-py3-none-" in wheel.name and log.read_text().startswith(expected.replace(str(build.MAIN), copied))
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "pip", "install", *options[3:], "--target", site, str(wheel)], check=True)
    environment = {"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": str(site)}
    ended = subprocess.run(
        [sys.executable, "-c", LOAD], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["None", "True"] and "Compiling" not in ended.stderr
