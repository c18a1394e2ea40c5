"""Names and the Hub: what is fetched, and words for what goes wrong. A small server on this machine plays the Hub."""

import huggingface_hub
import pytest
from fake_hub import SHA, FakeHub, serve_fake_hub
from huggingface_hub import errors

from llama_core import hub
from llama_core.hub import HubError, resolve


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    cache = tmp_path / "cache"
    real_api, real_download = huggingface_hub.HfApi, huggingface_hub.snapshot_download
    with serve_fake_hub() as server:
        monkeypatch.setattr(hub.huggingface_hub, "HfApi", lambda: real_api(endpoint=server.url))
        monkeypatch.setattr(
            hub.huggingface_hub, "snapshot_download",
            lambda *args, **more: real_download(*args, **more, endpoint=server.url, cache_dir=cache),
        )
        yield server


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert resolve(str(tmp_path)).folder == tmp_path and resolve(str(tmp_path)).name == tmp_path.name


def test_only_what_is_needed_is_fetched_and_the_revision_is_named(fake_hub):
    found = resolve("us/whole")
    assert found.name == f"us/whole@{SHA[:7]}"
    fetched = {path.relative_to(found.folder).as_posix() for path in found.folder.rglob("*") if path.is_file()}
    assert fetched == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (found.folder / "model.safetensors").read_bytes() == b"weights"
    fake_hub.shutdown()
    fake_hub.server_close()
    assert resolve("us/whole").folder == found.folder  # from the cache, without a network


@pytest.mark.parametrize(("name", "words"), [
    ("us/gone", "no model us/gone, or it is private"),
    ("us/gated", "us/gated is gated; ask for access"),
    ("us/whole@nowhere", "no revision 'nowhere'"),
    ("us/pickled", "us/pickled has only pytorch_model.bin; weights are read from safetensors alone"),
])
def test_what_the_hub_refuses_is_said_in_words(fake_hub, name, words):
    with pytest.raises(HubError, match=words):
        resolve(name)
    assert not any("resolve" in path for _, path in FakeHub.asked)


def test_a_download_tells_how_far_it_is_and_can_be_cancelled(fake_hub):
    seen = []
    resolve("us/whole", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (11, 11) and [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_cancelled_download_ends(fake_hub):
    def refuse(done, total):
        raise hub.Cancelled

    with pytest.raises(hub.Cancelled):
        resolve("us/whole", refuse)
    assert resolve("us/whole").name.startswith("us/whole")  # and goes on later


def test_sizes_are_known_before_anything_is_fetched(fake_hub):
    assert hub.sizes("us/whole") == {"config.json": 2, "model.safetensors": 7, "tokenizer.json": 2}
    with pytest.raises(HubError, match="gated"):
        hub.sizes("us/gated")


def test_no_network_is_said_in_words(fake_hub):
    fake_hub.shutdown()
    fake_hub.server_close()
    with pytest.raises(HubError, match="cannot reach the Hugging Face Hub for us/other") as refusal:
        resolve("us/other")
    assert "\n" not in str(refusal.value)


def test_a_full_disk_is_said_in_words(fake_hub, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", full)
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
