"""Names and the Hub: what is fetched and when, downloads that break, words for what goes wrong. A small server on this
machine plays the Hub; huggingface-hub is told its address as HF_ENDPOINT would, and otherwise left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from checkpoints import copy_checkpoint
from fake_hub import FILES, SHA, WEIGHTS, serve_fake_hub
from huggingface_hub import constants, errors

from llama_core.checkpoint import download, hub
from llama_core.checkpoint.hub import HubError, resolve
from llama_core.runtime.files import ModelFileError


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def fetched(server):
    paths = [path for verb, path, _ in server.asked if verb == "GET" and "/resolve/" in path]
    return [path.partition(f"/resolve/{SHA}/")[2] for path in paths]


def test_a_folder_is_taken_as_it_is(tmp_path):
    seen = []
    found = resolve(str(tmp_path), seen.append)
    assert found.folder == tmp_path and found.name == tmp_path.name and seen == [found]


def test_only_what_is_needed_is_fetched_small_files_first_and_the_revision_is_named(fake_hub):
    def look(found):
        assert files_in(found.folder) == {"config.json", "generation_config.json", "tokenizer.json"}

    found = resolve("us/whole", look)
    assert found.name == f"us/whole@{SHA[:7]}"
    assert files_in(found.folder) == {"config.json", "generation_config.json", "tokenizer.json", "model.safetensors"}
    assert (found.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert len(fetched(fake_hub)) == 4 and fetched(fake_hub)[-1] == "model.safetensors"


def test_shards_are_those_of_the_index_and_of_original_only_the_tokenizer_is_taken(fake_hub):
    found = resolve("us/sharded@main")
    assert files_in(found.folder) == {
        "config.json",
        "original/tokenizer.model",
        "model.safetensors.index.json",
        "part-1.safetensors",
        "part-2.safetensors",
    }


def test_added_tokens_and_shards_in_folders_or_with_spaces_are_fetched(fake_hub):
    names = ("added_tokens.json", "weights/part (1) of 2.safetensors", "part 2.safetensors")
    index = {"weight_map": {"a": names[1], "b": names[2]}}
    fake_hub.repositories["us/odd"] = {
        **dict.fromkeys(("config.json", "tokenizer.json", *names), b"{}"),
        "model.safetensors.index.json": json.dumps(index).encode(),
        "weights/other.safetensors": b"not asked for",
    }
    found = resolve(
        "us/odd", lambda found: names[0] in files_in(found.folder) or pytest.fail("a small file is missing")
    )
    assert files_in(found.folder) == {"config.json", "tokenizer.json", "model.safetensors.index.json", *names}
    assert hub.preview(str(found.folder))[1] == hub.preview("us/odd")[1] == 4


def test_what_before_weights_refuses_is_not_downloaded(fake_hub):
    def refuse(found):
        raise ModelFileError("too big for this machine")

    with pytest.raises(ModelFileError, match="too big"):
        resolve("us/whole", refuse)
    assert "model.safetensors" not in fetched(fake_hub)


def test_progress_counts_megabytes_and_knows_the_total_at_the_start(fake_hub):
    seen = []
    resolve("us/whole", progress=lambda done, total: seen.append((done, total)))
    total = len(WEIGHTS) // 10**6
    assert seen[0] == (0, total) and seen[-1] == (total, total) and seen == sorted(seen)


def test_a_download_is_cancelled_from_its_progress_and_what_came_is_kept(fake_hub):
    def cancel(done, total):
        raise hub.Cancelled

    with pytest.raises(hub.Cancelled):
        resolve("us/whole", progress=cancel)
    assert resolve("us/whole").name == f"us/whole@{SHA[:7]}"


def test_sizes_are_known_before_the_weights_are_fetched(fake_hub):
    found, size = hub.preview("us/whole")
    assert (
        size == len(WEIGHTS)
        and (found.folder / "config.json").is_file()
        and "model.safetensors" not in fetched(fake_hub)
    )
    assert hub.preview("us/sharded")[1] == 12_000
    resolve("us/whole")
    fake_hub.gone()
    assert hub.preview("us/whole")[1] == len(WEIGHTS)


def test_a_connection_that_breaks_is_taken_up_where_it_broke(fake_hub):
    fake_hub.cuts = [300_000, 100_000]
    found = resolve("us/whole")
    assert (found.folder / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [wanted for verb, path, wanted in fake_hub.asked if verb == "GET" and path.endswith("model.safetensors")]
    assert ranges[0] is None and all(wanted.startswith("bytes=") for wanted in ranges[1:]) and len(ranges) == 3
    assert int(ranges[-1].removeprefix("bytes=").rstrip("-")) > 200_000


def test_a_later_start_goes_on_where_an_earlier_one_ended(fake_hub):
    fake_hub.cuts = [400_000] + [0] * 20
    with pytest.raises(HubError, match="cannot fetch us/whole .*start again, it goes on where it ended") as refusal:
        resolve("us/whole")
    assert "\n" not in str(refusal.value)
    fake_hub.cuts, fake_hub.asked[:], seen = [], [], []
    found = resolve("us/whole", progress=lambda done, total: seen.append(done))
    assert (found.folder / "model.safetensors").read_bytes() == WEIGHTS
    [wanted] = [wanted for verb, path, wanted in fake_hub.asked if verb == "GET" and path.endswith("model.safetensors")]
    assert int(wanted.removeprefix("bytes=").rstrip("-")) > 200_000
    assert not list(found.folder.parents[1].rglob("*.partial"))


def test_without_a_network_what_was_fetched_is_found_by_its_name(fake_hub):
    first = resolve("us/whole")
    resolve(f"us/sharded@{SHA}")
    fake_hub.gone()
    assert resolve("us/whole") == first
    assert resolve(f"us/whole@{SHA}").folder == first.folder
    assert resolve(f"us/sharded@{SHA}").name == f"us/sharded@{SHA[:7]}"
    words = "cannot reach the Hugging Face Hub for us/other, which is not downloaded yet; check the network"
    with pytest.raises(HubError, match=words) as refusal:
        resolve("us/other")
    assert "\n" not in str(refusal.value)


def test_offline_mode_asks_nobody(fake_hub, monkeypatch):
    first = resolve("us/whole")
    fake_hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve("us/whole") == first and not fake_hub.asked
    with pytest.raises(HubError, match="is not downloaded yet"):
        resolve("us/sharded")


def test_half_a_download_is_no_model(fake_hub):
    fake_hub.cuts = [1000] * 30
    with pytest.raises(HubError):
        resolve("us/whole")
    fake_hub.gone()
    with pytest.raises(HubError, match="is downloaded only in part"):
        resolve("us/whole")


def test_a_revision_that_moves_is_followed_and_the_old_one_stays(fake_hub):
    old = resolve("us/whole")
    fake_hub.sha = "f" * 40
    fake_hub.repositories["us/whole"] = {**FILES, "model.safetensors": b"better"}
    new = resolve("us/whole")
    assert new.name == "us/whole@fffffff" and (new.folder / "model.safetensors").read_bytes() == b"better"
    assert (old.folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("us/gone", "no model us/gone, or it is private"),
        ("us/private", "no model us/private, or it is private"),
        ("us/gated", "us/gated is gated; ask for access"),
        ("us/whole@nowhere", "no revision 'nowhere'"),
        ("us/pickled", "us/pickled has only pytorch_model.bin; weights are read from safetensors and GGUF alone"),
        ("us/down", "cannot reach the Hugging Face Hub for us/down, .*503"),
        ("us/forbidden", "the token in HF_TOKEN may not read us/forbidden"),
        ("us/evil", "expected safetensors files of the same folder"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(fake_hub, name, words):
    with pytest.raises(ValueError, match=words) as refusal:
        resolve(name)
    assert "\n" not in str(refusal.value)


def test_a_gated_model_whose_page_is_open_is_gated(fake_hub):
    fake_hub.gated_files.add("us/whole")
    with pytest.raises(HubError, match="us/whole is gated; ask for access"):
        resolve("us/whole")


def test_a_token_that_is_not_accepted_is_named(fake_hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with pytest.raises(HubError, match="does not accept the token in HF_TOKEN"):
        resolve("us/whole")


def test_a_token_is_not_sent_to_the_storage_that_the_hub_names(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "hf_secret" in str(download._headers("https://hub/a/b", "https://hub/c"))
    assert "hf_secret" not in str(download._headers("https://hub/a/b", "https://storage/c"))


def test_a_disk_that_is_too_small_is_said_before_the_download(fake_hub):
    fake_hub.claimed["model.safetensors"] = 10**18
    with pytest.raises(HubError, match=r"us/whole needs 1000000000.0 GB more and the disk with .* has [\d.]+ GB free"):
        resolve("us/whole")
    assert "model.safetensors" not in fetched(fake_hub)


def test_a_disk_that_fills_up_is_said_in_words(fake_hub, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub, "fetch_file", full)
    with pytest.raises(HubError, match="the disk is full"):
        resolve("us/whole")


@pytest.mark.parametrize("name", ["nothing", "./nothing/here", "a/b/c", "../up/down", "/no/such", "x y/z", ""])
def test_what_is_neither_a_folder_nor_an_id_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name:
        with pytest.raises(HubError, match="give a folder"):
            resolve(name)


def test_a_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(HubError, match="is a file; give the folder"):
        resolve(str(tmp_path / "model.safetensors"))


def test_the_errors_we_tell_apart_still_exist():
    assert issubclass(errors.GatedRepoError, errors.RepositoryNotFoundError)  # so it has to be asked first
    assert huggingface_hub.utils.are_progress_bars_disabled() is False  # ours are drawn instead, for a while only


LOAD = """
import sys
from llama_core import load_checkpoint
model = load_checkpoint("us/llama", download=lambda done, total: print("MB", done, total))
print(model.name, model.parameter_count, len(model.chat.prompt_ids([{"role": "user", "content": "Hi"}])))
"""


def test_a_model_comes_from_the_hub_to_its_first_prompt(checkpoint, tmp_path):
    """In a process of its own, told where the Hub is by the environment alone; then once more without a network."""
    folder = copy_checkpoint(checkpoint[0], tmp_path / "copy")
    with serve_fake_hub() as server:
        server.repositories["us/llama"] = {path.name: path.read_bytes() for path in folder.iterdir()}
        environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
        runs = [
            subprocess.run(
                [sys.executable, "-c", LOAD],
                env=environment,
                cwd=Path(__file__).parents[2],
                capture_output=True,
                text=True,
                timeout=300,
            )
        ]
        server.gone()
        runs.append(
            subprocess.run(
                [sys.executable, "-c", LOAD],
                env=environment,
                cwd=Path(__file__).parents[2],
                capture_output=True,
                text=True,
                timeout=300,
            )
        )
    for run in runs:
        assert run.returncode == 0, run.stderr
        assert f"us/llama@{SHA[:7]}" in run.stdout
    assert "MB 0 1" in runs[0].stdout and "MB" not in runs[1].stdout
    assert json.loads((folder / "config.json").read_text())
