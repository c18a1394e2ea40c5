"""The Dockerfile and what lies beside it. `tests/run_dockerfile.py` runs the steps themselves."""

import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from run_dockerfile import instructions

ROOT = Path(__file__).parents[1]
STEPS = instructions((ROOT / "Dockerfile").read_text())


def test_hadolint_has_nothing_to_say():
    beside_python = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    hadolint = shutil.which("hadolint", path=beside_python) or pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "" and done.returncode == 0


def test_what_is_copied_is_there_and_reaches_the_build():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [source for name, rest in STEPS if name == "COPY" for source in rest.split()[:-1]]
    assert copied and all((ROOT / source).exists() for source in copied)
    assert all(any(fnmatch(source, pattern) for pattern in kept) for source in copied)


def test_the_container_runs_as_nobody_special():
    assert [rest for name, rest in STEPS if name == "USER"] == ["1000"]


def test_compose_keeps_models_and_tells_prometheus_where_to_look():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    home = next(rest for name, rest in STEPS if name == "RUN" and "useradd" in rest)
    assert "--create-home" in home and services["chat"]["volumes"] == ["models:/home/llama/.cache"]
    scraped = yaml.safe_load((ROOT / "docs" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scraped["static_configs"] == [{"targets": ["chat:7860"]}] and "EXPOSE" in dict(STEPS)
