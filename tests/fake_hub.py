"""A server on this machine that plays the Hugging Face Hub: the few routes that a download uses."""

import contextlib
import http.server
import json
import threading

FILES = {
    "config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}", "tokenizer.model": b"x",
    "pytorch_model.bin": b"pickle", "original/consolidated.00.pth": b"pickle", "README.md": b"hello",
}
SHA = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(http.server.BaseHTTPRequestHandler):
    """Answers for models of the user `us`."""

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
        return json.dumps({"id": "us/x", "sha": SHA, "siblings": [
            {"rfilename": name, "size": len(FILES.get(name, b""))} for name in files]}).encode()

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


@contextlib.contextmanager
def serve_fake_hub():
    """The server while it runs; closed early, it is a network that has gone."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    FakeHub.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
