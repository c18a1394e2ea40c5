"""The laws of ARCHITECTURE.md and CONTRIBUTING.md that can be read off the files, and the wheel."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_wheel import copy_sources

ROOT = Path(__file__).parents[1]
FOLDERS = ("llama_core", "web", "guide", "benchmarks", "examples", "tests")
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "weights/README.md")
MOST_LINES_PER_FILE, MOST_LINES_PER_FUNCTION, MOST_FILES_PER_FOLDER = 300, 40, 15


def source_files(*endings: str) -> list[Path]:
    found = [path for folder in FOLDERS for ending in endings for path in (ROOT / folder).rglob(f"*.{ending}")]
    assert found
    return sorted([ROOT / "app.py", *found] if "py" in endings else found)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


def pages() -> list[Path]:
    return [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]


def test_no_file_is_longer_than_300_lines():
    lengths = {
        named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in source_files("py", "js", "css")
    }
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_PER_FILE} == {}


def test_no_function_is_longer_than_40_lines():
    lengths = {f"{named(path)} {name}": length for path in source_files("py") for name, length in functions(path)}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_PER_FUNCTION} == {}


def test_no_folder_has_more_than_15_files():
    counts = Counter(named(path.parent) for path in source_files("py", "js", "css"))
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES_PER_FOLDER} == {}


def test_every_folder_says_what_it_is_for():
    rooms = [path.parent for path in source_files("py") if path.is_relative_to(ROOT / "llama_core")]
    rooms += [path.parent for path in source_files("py") if path.is_relative_to(ROOT / "web")]
    silent = {
        named(room) for room in rooms if not ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8")))
    }
    assert silent == set()


@pytest.mark.parametrize("page", pages(), ids=named)
def test_relative_links_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) + re.findall(r'src="([^"]+)"', text)
    relative = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in relative if not (page.parent / target).exists()] == []


def test_every_picture_is_shown():
    told = "".join(page.read_text(encoding="utf-8") for page in pages())
    pictures = [path.name for kind in ("png", "webp") for path in (ROOT / "docs").glob(f"*.{kind}")]
    assert [name for name in pictures if name not in told] == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_file_that_the_plan_names_exists(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:[\w.-]+/)*[\w.-]+(?:\.(?:py|js|css|toml|txt|md|yml|yaml)|/))`", text)
    assert len(paths) > 10
    assert sorted({path for path in paths if not (ROOT / path).exists()}) == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_name_that_the_plan_places_in_a_file_is_there(page: str):
    """Where the text says "`Name` in `file.py`" or "`Class.method` in `file.py`"."""
    text = (ROOT / page).read_text(encoding="utf-8")
    placed = re.findall(r"`([\w.]+)`\s+in\s+`([\w/]+\.py)`", text)
    assert placed
    code = {path: (ROOT / path).read_text(encoding="utf-8") for _, path in placed if (ROOT / path).exists()}
    missing = [
        (name, path)
        for name, path in placed
        if not all(re.search(rf"\b{part}\b", code.get(path, "")) for part in name.split("."))
    ]
    assert missing == []


def test_the_plan_names_every_file():
    """Each file of llama_core and web stands in the table of its folder, as `folder/` and then its name."""
    rows = re.findall(
        r"^\| `((?:llama_core|web)/[\w/]*)` \|[^|]*\| (.*) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.M
    )
    told = {folder + name for folder, names in rows for name in re.findall(r"`([\w.]+)`", names)}
    code = [path for folder in ("llama_core", "web") for path in (ROOT / folder).rglob("*.py")]
    real = {named(path.with_suffix("")) for path in code if path.name not in ("__init__.py", "__main__.py")}
    assert real - told == set()
    assert told - real == set()


def test_extras_are_those_of_the_requirements_files():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name, packages in extras.items():
        lines = (ROOT / f"requirements-{name}.txt").read_text(encoding="utf-8").splitlines()
        assert packages == [line for line in lines if line and not line.startswith(("#", "-r"))]


def test_the_version_is_that_of_the_changelog():
    """A release is tagged with it (.github/workflows/release.yml)."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    newest = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)[0]
    assert version == newest


def test_loading_a_checkpoint_imports_nothing_of_the_engine():
    code = "import llama_core.checkpoint, sys; print([name for name in sys.modules if 'llama_core.engine' in name])"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_the_wheel_has_the_page_and_the_guide(tmp_path: Path):
    pytest.importorskip("setuptools")
    tree = tmp_path / "tree"
    try:
        copy_sources(tree)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", ".", *options, "-w", tmp_path], cwd=tree, check=True)
    inside = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    wanted = [*(ROOT / "web" / "assets").rglob("*"), *(ROOT / "weights" / "guide").iterdir()]
    wanted += (ROOT / "web" / "languages").glob("*.json")
    wanted += [ROOT / "app.py", ROOT / "llama_core" / "py.typed", ROOT / "web" / "py.typed"]
    assert {named(path) for path in wanted if path.is_file()} <= inside
    assert not [name for name in inside if name.startswith(("tests", "guide/"))]


def test_the_command_calls_a_function_of_the_app():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = scripts["glass-llama"].partition(":")
    tree = ast.parse((ROOT / f"{module}.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    assert len(found) == 1 and not found[0].args.args
