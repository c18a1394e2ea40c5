"""Repositories of GGUF files: which file is meant, that no other is fetched, what is known before it is whole."""

import pytest
from checkpoints import reference_model
from fake_hub import FILES, SHA
from gguf_files import write_gguf

from llama_core import load_checkpoint
from llama_core.checkpoint import hub
from llama_core.checkpoint.estimate import estimate
from llama_core.checkpoint.gguf import remote
from llama_core.checkpoint.gguf.files import choose, gguf_models
from llama_core.checkpoint.hub import HubError, list_gguf, preview, resolve
from llama_core.checkpoint.layout import CheckpointError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Models that differ in their quantisation alone, as name → content; the last one in two parts."""
    folder = tmp_path_factory.mktemp("gguf")
    theirs = reference_model(num_hidden_layers=1, intermediate_size=128)
    for name, kind in (("m-Q8_0.gguf", "Q8_0"), ("m-Q4_0.gguf", "Q4_0"), ("m-F16.gguf", "F16")):
        write_gguf(folder / name, theirs, kind=kind)
    write_gguf(folder / "m-Q4_1.gguf", theirs, kind="Q4_1", split_max_tensors=8)
    others = {"mmproj-m-F16.gguf": b"image encoder", "README.md": b"hello", "config.json": b"{}"}
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} | others


@pytest.fixture
def repository(fake_hub, files, monkeypatch):
    fake_hub.repositories |= {"us/gguf": files, "us/one": {"one.gguf": files["m-Q4_0.gguf"]}}
    monkeypatch.setattr(remote, "FIRST_BYTES", 1000)  # less than these headers have
    return fake_hub


def fetched(server):
    paths = [(path, wanted) for verb, path, wanted in server.asked if verb == "GET" and "/resolve/" in path]
    return [(path.partition(f"/resolve/{SHA}/")[2], wanted) for path, wanted in paths]


def test_only_the_chosen_file_is_fetched_and_each_byte_once(repository, files):
    found = resolve("us/gguf:q4_0")
    assert found.name == f"us/gguf@{SHA[:7]}:Q4_0" and found.id == f"us/gguf@{SHA[:12]}:Q4_0"
    assert {name for name, _ in fetched(repository)} == {"m-Q4_0.gguf"} and not found.notes
    assert found.gguf[0].file.path.read_bytes() == files["m-Q4_0.gguf"]
    ranges = [wanted.removeprefix("bytes=").partition("-") for _, wanted in fetched(repository)]
    ends = [int(last or len(files["m-Q4_0.gguf"]) - 1) for _, _, last in ranges]
    assert [int(first) for first, _, _ in ranges] == [0, *(end + 1 for end in ends[:-1])]


@pytest.mark.parametrize("choice", ["m-Q4_0.gguf", "m-q4_0", "Q4_0"])
def test_a_file_is_chosen_by_its_quantisation_or_its_name(repository, choice):
    assert resolve(f"us/gguf@main:{choice}").gguf[0].file.name == "m-Q4_0.gguf"


def test_without_a_choice_the_usual_file_is_taken_and_said(repository):
    found = resolve("us/gguf")
    assert found.name.endswith(":Q8_0")
    assert found.notes == ("Q8_0 was taken of 4 GGUF models; the others are F16, Q4_0, Q4_1",)
    assert resolve("us/one").gguf[0].file.name == "one.gguf"


def test_a_model_in_parts_is_fetched_whole(repository):
    model = load_checkpoint("us/gguf:Q4_1")
    assert model.stored.startswith("Q4_1") and model.id == f"us/gguf@{SHA[:12]}:Q4_1"
    assert {name for name, _ in fetched(repository)} == {f"m-Q4_1-0000{part}-of-00002.gguf" for part in (1, 2)}


def test_the_size_is_known_and_the_model_can_be_refused_from_the_header_alone(repository, files):
    before = estimate("us/gguf:F16", "float32", 1, 256)
    assert before.file_bytes == len(files["m-F16.gguf"])
    sent = max(int(wanted.partition("-")[2]) for _, wanted in fetched(repository))
    assert sent < len(files["m-F16.gguf"]) / 2

    def refuse(plan):
        raise CheckpointError(f"{plan.config.hidden_size} is too wide")

    with pytest.raises(CheckpointError, match="64 is too wide"):
        load_checkpoint("us/gguf:F16", check=refuse)
    assert max(int(wanted.partition("-")[2]) for _, wanted in fetched(repository)) == sent
    assert load_checkpoint("us/gguf:F16").parameter_count == before.parameters


def test_a_connection_that_breaks_is_taken_up_where_it_broke(repository, files):
    repository.cuts = [500, 3000]
    assert resolve("us/gguf:F16").gguf[0].file.path.read_bytes() == files["m-F16.gguf"]


def test_without_a_network_what_was_fetched_is_found(repository):
    first = resolve("us/gguf:Q4_0")
    resolve("us/gguf:Q4_1")
    repository.gone()
    assert resolve("us/gguf:Q4_0") == first
    assert preview("us/gguf:Q4_0")[1] == first.gguf[0].file.size
    assert len(resolve("us/gguf:Q4_1").gguf) == 2
    with pytest.raises(
        CheckpointError, match="us/gguf has no GGUF model 'F16'; choose one of us/gguf:Q4_0, us/gguf:Q4_1"
    ):
        resolve("us/gguf:F16")
    with pytest.raises(HubError, match="is not downloaded yet"):
        resolve("us/one")


def test_the_files_of_a_repository_are_listed_with_their_sizes(repository, files):
    parts = sum(len(content) for name, content in files.items() if "Q4_1" in name)
    assert dict(list_gguf("us/gguf@main")) == {
        "us/gguf@main:F16": len(files["m-F16.gguf"]),
        "us/gguf@main:Q4_0": len(files["m-Q4_0.gguf"]),
        "us/gguf@main:Q8_0": len(files["m-Q8_0.gguf"]),
        "us/gguf@main:Q4_1": parts,
    }
    assert list_gguf("us/whole") == []


def test_safetensors_go_first_unless_a_file_is_chosen(repository, files):
    repository.repositories["us/both"] = FILES | {"m-Q4_0.gguf": files["m-Q4_0.gguf"]}
    assert not resolve("us/both").gguf and list_gguf("us/both") == []
    assert resolve("us/both:Q4_0").gguf[0].file.name == "m-Q4_0.gguf"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "us/gguf:Q2_K",
            "us/gguf has no GGUF model 'Q2_K'; choose one of us/gguf:F16, us/gguf:Q4_0, us/gguf:Q4_1, us/gguf:Q8_0",
        ),
        ("us/whole:Q2_K", "us/whole has no GGUF model 'Q2_K'"),
        ("us/notes", "no weights"),
        ("us/odd", "us/odd has 2 GGUF models; choose one of us/odd:IQ1_S, us/odd:IQ2_M"),
        ("us/broken", "broken.gguf: it begins with b'hell', expected b'GGUF'"),
        ("us/short", "short.gguf: byte .* asks for .* more bytes, and the file has 2000"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(repository, files, name, words):
    repository.repositories |= {
        "us/notes": {"mmproj-x.gguf": b"x", "imatrix.gguf": b"x", "part-00002-of-00002.gguf": b"x"},
        "us/odd": dict.fromkeys(("a-IQ1_S.gguf", "a-IQ2_M.gguf"), b"x"),
        "us/broken": {"broken.gguf": b"hello" * 1000},
        "us/short": {"short.gguf": files["m-Q4_0.gguf"][:2000]},
    }
    with pytest.raises(ValueError, match=words) as refusal:
        resolve(name)
    assert "\n" not in str(refusal.value)


def test_quantisations_are_read_from_names():
    names = {
        "SmolLM2-135M-Instruct.Q4_1.gguf": "Q4_1",
        "Llama-3.2-1B-Instruct-IQ3_M.gguf": "IQ3_M",
        "qwen2.5-0.5b-instruct-fp16.gguf": "FP16",
        "x-UD-Q4_K_XL.gguf": "UD-Q4_K_XL",
        "BF16/x-00001-of-00001.gguf": "BF16",
        "Qwen3-0.6B.gguf": "Qwen3-0.6B.gguf",
    }
    assert {files[0]: label for label, files in gguf_models(names).items()} == names
    twice = gguf_models(["a-Q8_0.gguf", "b-Q8_0.gguf"])
    assert list(twice) == ["a-Q8_0.gguf", "b-Q8_0.gguf"] and choose(twice, "B-q8_0", "x") == "b-Q8_0.gguf"
    assert gguf_models(["../x.gguf", ".x.gguf", "x[1].gguf", "x.gguf.part", f"{'x' * 300}.gguf"]) == {}


def test_the_hub_is_asked_for_nothing_of_a_file_on_this_machine(repository, files, tmp_path):
    (tmp_path / "x.gguf").write_bytes(files["m-Q4_0.gguf"])
    repository.asked.clear()
    found, size = hub.preview(str(tmp_path / "x.gguf"))
    assert found.name == "x" and size == len(files["m-Q4_0.gguf"]) and not repository.asked
