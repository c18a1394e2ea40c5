"""Names and the Hub: what is fetched, and words for what goes wrong. A small server on this machine plays the Hub."""

import http.server
import json
import threading

import huggingface_hub
import pytest
from huggingface_hub import errors

from llama_core import hub
from llama_core.hub import HubError, resolve

FILES = {
    "config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}", "tokenizer.model": b"x",
    "pytorch_model.bin": b"pickle", "original/consolidated.00.pth": b"pickle", "README.md": b"hello",
}
SHA = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(http.server.BaseHTTPRequestHandler):
    """The three routes of huggingface.co that a download uses."""

    asked: list = []

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        type(self).asked.append((self.command, self.path))
        if self.path.startswith("/api/models/us/gone"):
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if self.path.startswith("/api/models/us/gated"):
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if "/nowhere" in self.path:
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if self.path.startswith("/api/models/us/pickled"):
            return self.answer(200, self.info(["config.json", "pytorch_model.bin"]))
        if "/tree/" in self.path:
            files = [{"type": "file", "path": name, "size": len(data), "oid": "1" * 40} for name, data in FILES.items()]
            return self.answer(200, json.dumps(files).encode())
        if self.path.startswith("/api/models/us/whole"):
            return self.answer(200, self.info(FILES))
        name = self.path.partition(f"/resolve/{SHA}/")[2]
        return self.answer(200, FILES[name], {"X-Repo-Commit": SHA, "ETag": f'"{abs(hash(name)):x}"'})

    def info(self, files):
        return json.dumps({"id": "us/x", "sha": SHA, "siblings": [{"rfilename": name} for name in files]}).encode()

    def answer(self, code, body, headers=()):
        self.send_response(code)
        always = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        for name, value in {**dict(headers), **always}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url, cache = f"http://127.0.0.1:{server.server_port}", tmp_path / "cache"
    real_api, real_download = huggingface_hub.HfApi, huggingface_hub.snapshot_download
    monkeypatch.setattr(hub.huggingface_hub, "HfApi", lambda: real_api(endpoint=url))
    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download",
                        lambda *args, **more: real_download(*args, **more, endpoint=url, cache_dir=cache))
    FakeHub.asked = []
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


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
