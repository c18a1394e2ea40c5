"""A server on this machine that plays the Hugging Face Hub over HTTP: the routes that a download uses, files in ranges,
connections that break in the middle, repositories that are gated, private or gone."""

import contextlib
import hashlib
import http.server
import json
import threading
from urllib.parse import unquote

SHA = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 4000
FILES = {
    "config.json": b"{}",
    "generation_config.json": b"{ }",
    "tokenizer.json": b"{  }",
    "tokenizer.model": b"x",
    "original/tokenizer.model": b"x",
    "original/consolidated.00.pth": b"pickle",
    "pytorch_model.bin": b"pickle",
    "consolidated.safetensors": b"twice",
    "README.md": b"hello",
    "model.safetensors": WEIGHTS,
}
SHARDED = {
    "config.json": b"{}",
    "original/tokenizer.model": b"x",
    "part-1.safetensors": WEIGHTS[:5000],
    "part-2.safetensors": WEIGHTS[:7000],
    "other.safetensors": b"not asked for",
    "model.safetensors.index.json": b'{"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}',
}
# Status and error code of the Hub for whatever is asked about these.
REFUSED = {
    "us/gone": (404, "RepoNotFound"),
    "us/private": (401, "RepoNotFound"),
    "us/gated": (403, "GatedRepo"),
    "us/down": (503, None),
    "us/forbidden": (403, None),
}


class FakeHub(http.server.BaseHTTPRequestHandler):
    """Answers for models of the user `us`; what it was asked and how it behaves is in its server."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, path = self.server, unquote(self.path).partition("?")[0]
        hub.asked.append((self.command, path, self.headers.get("Range")))
        repo = "/".join(path.removeprefix("/api/models").strip("/").split("/")[:2])
        if self.headers.get("Authorization", "Bearer good") != "Bearer good":
            return self.answer(401, b'{"error": "Invalid credentials in Authorization header"}')
        if repo in REFUSED:
            code, reason = REFUSED[repo]
            return self.answer(code, b"{}", {"X-Error-Code": reason} if reason else {})
        files = hub.repositories.get(repo)
        if files is None:
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if "/nowhere" in path:
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if path.startswith("/api/"):
            answer = self.tree(files) if "/tree/" in path else self.info(repo, files)
            return self.answer(200, json.dumps(answer).encode())
        if repo in hub.gated_files:
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        name = path.split("/resolve/")[1].split("/", 1)[1]
        return self.send_file(name, files[name])

    def tree(self, files):
        return [
            {"type": "file", "path": name, "size": self.size(name, data), "oid": self.etag(data)}
            for name, data in files.items()
        ]

    def info(self, repo, files):
        siblings = [
            {"rfilename": name, "size": self.size(name, data), "blobId": self.etag(data)}
            for name, data in files.items()
        ]
        return {"id": repo, "sha": self.server.sha, "siblings": siblings}

    def size(self, name, data):
        return self.server.claimed.get(name, len(data))

    @staticmethod
    def etag(data):
        return hashlib.sha1(data).hexdigest()

    def send_file(self, name, data):
        first, _, last = (self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), int(last or len(data) - 1)
        code = 206 if self.headers.get("Range") else 200
        headers = {"X-Repo-Commit": self.server.sha, "ETag": f'"{self.etag(data)}"', "Accept-Ranges": "bytes"}
        if code == 206:
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        cut = None
        if self.command == "GET" and name.endswith((".safetensors", ".gguf")) and self.server.cuts:
            cut = self.server.cuts.pop(0)
        self.answer(code, data[start : end + 1], headers, cut)

    def answer(self, code, body, headers=(), cut=None):
        """The whole body, or `cut` bytes of it and then a connection that is gone."""
        self.send_response(code)
        always = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        for name, value in {**always, **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve_fake_hub():
    """The server while it runs; `gone()` makes it a network that is not there."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.repositories = {
        "us/whole": FILES,
        "us/sharded": SHARDED,
        "us/pickled": {"config.json": b"{}", "pytorch_model.bin": b"pickle"},
        "us/evil": {
            "config.json": b"{}",
            "model.safetensors.index.json": b'{"weight_map": {"a": "../../x.safetensors"}}',
        },
    }
    server.asked, server.cuts, server.claimed, server.gated_files, server.sha = [], [], {}, set(), SHA
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()

    def gone():
        server.shutdown()
        server.server_close()
        thread.join()

    server.gone = gone
    yield server
    if thread.is_alive():
        gone()
