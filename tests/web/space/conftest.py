"""A server on this machine that plays the Hub's side of Spaces over HTTP, and the command that is run against it."""

import base64
import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import close_session, constants

from web.space import hub
from web.space.__main__ import main

ROOT = Path(__file__).parents[3]
TOKEN = "hf_goodtoken"
SHA = "0123456789abcdef0123456789abcdef01234567"
MODEL = {"config.json": (ROOT / "weights" / "guide" / "config.json").read_bytes(), "model.safetensors": b"weights"}


class FakeSpaces(http.server.BaseHTTPRequestHandler):
    """Answers for the user `ada`; what it keeps is in its server."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.route()

    def do_HEAD(self):
        self.route()

    def do_POST(self):
        self.route()

    def do_PUT(self):
        self.route()

    def do_DELETE(self):
        self.route()

    def route(self):
        hub, path = self.server, unquote(self.path).partition("?")[0]
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        hub.asked.append((self.command, path))
        if hub.breaks and hub.breaks in path:
            self.close_connection = True
            return self.connection.close()
        if path.startswith("/api/models/") or "/resolve/" in path:
            return self.of_model(path)
        if path == "/api/spaces/hardware":
            return self.say(hub.prices)
        if "/upload/" in path:  # as on the Hub, the address itself allows it
            hub.large[path.rsplit("/", 1)[1]] = body
            return self.say({})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.say({"error": "Invalid credentials"}, 401)
        if path in ("/api/repos/create", "/api/repos/delete", "/api/validate-yaml"):
            return getattr(self, path.rsplit("/", 1)[1].replace("-", "_"))(json.loads(body))
        parts = path.removeprefix("/api").removeprefix("/spaces/").split("/")
        space = "/".join(parts[:2]).removesuffix(".git")
        if space not in hub.spaces:
            return self.say({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        return self.of_space(hub.spaces[space], space, parts[2:], body)

    def of_model(self, path):
        """Each has the shape of the guide."""
        if path.startswith("/api/"):
            name = "/".join(path.removeprefix("/api/models/").split("/")[:2])
            if "/tree/" in path:
                return self.say(tree(MODEL))
            siblings = [{"rfilename": name, "size": len(data), "blobId": oid(data)} for name, data in MODEL.items()]
            gated = "manual" if "gated" in name else False
            return self.say({"id": name, "sha": SHA, "gated": gated, "private": False, "siblings": siblings})
        data = MODEL[path.rsplit("/", 1)[1]]
        return self.answer(data, 200, {"X-Repo-Commit": SHA, "ETag": f'"{oid(data)}"'})

    def create(self, wanted):
        name = f"{wanted['organization']}/{wanted['name']}"
        if self.server.refuses_to_create:
            return self.say({"error": self.server.refuses_to_create[1]}, self.server.refuses_to_create[0])
        self.server.spaces[name] = new_space(wanted)
        return self.say({"url": f"{self.server.url}/spaces/{name}"})

    def delete(self, wanted):
        del self.server.spaces[f"{wanted['organization']}/{wanted['name']}"]
        return self.say({})

    def validate_yaml(self, wanted):
        return self.say({"errors": [], "warnings": []})

    def of_space(self, space, name, rest, body):
        match rest:
            case ["tree", *_]:
                return self.say(tree(space["files"]))
            case ["preupload", *_]:
                return self.say({"files": [self.mode(space, row) for row in json.loads(body)["files"]]})
            case ["info", "lfs", "objects", "batch"]:
                return self.batch(json.loads(body))
            case ["commit", *_]:
                return self.commit(space, name, [json.loads(line) for line in body.splitlines()])
            case [] | ["revision", *_]:
                return self.say({"id": name, "sha": space["sha"], "siblings": []})
            case _:
                return self.set_up(space, rest, body)

    def set_up(self, space, rest, body):
        match rest:
            case ["runtime"]:
                stages = space["stages"]
                stage = stages.pop(0) if len(stages) > 1 else stages[0]
                hardware = {"current": space["hardware"], "requested": space["hardware"]}
                return self.say({"stage": stage, "hardware": hardware, "sha": space["sha"]})
            case ["logs", kind]:
                lines = "".join(
                    f'data: {{"data": "{line}\\n", "timestamp": "2026-11-27T10:00:00.000Z"}}\n\n'
                    for line in space["log"][kind]
                )
                return self.answer(lines.encode(), 200, {"Content-Type": "text/event-stream"})
            case ["variables"] if self.command == "GET":
                return self.say({key: {"key": key, "value": value} for key, value in space["variables"].items()})
            case ["variables"] if self.command == "DELETE":
                del space["variables"][json.loads(body)["key"]]
                return self.say({})
            case ["variables"] | ["secrets"]:
                row = json.loads(body)
                space[rest[0]][row["key"]] = row["value"]
                return self.say({})
            case ["hardware"]:
                space["hardware"] = json.loads(body)["flavor"]
                return self.say({"stage": "BUILDING"})
            case ["pause"]:
                space["stages"] = ["PAUSED"]
                return self.say({"stage": "PAUSED"})
            case ["restart"]:
                space["stages"] = ["APP_STARTING", "RUNNING"]
                return self.say({"stage": "APP_STARTING"})
            case ["settings"]:
                space["private"] = json.loads(body)["visibility"] == "private"
                return self.say({})
            case _:
                return self.say({"error": "not played here"}, 404)

    def mode(self, space, row):
        known = space["files"].get(row["path"])
        mode = "lfs" if row["path"].endswith(".safetensors") else "regular"
        return {
            "path": row["path"],
            "uploadMode": mode,
            "shouldIgnore": False,
            "oid": None if known is None else sha256(known) if mode == "lfs" else oid(known),
        }

    def batch(self, wanted):
        rows = []
        for row in wanted["objects"]:
            upload = {"href": f"{self.server.url}/upload/{row['oid']}"}
            known = row["oid"] in self.server.large
            rows.append({**row, **({} if known else {"actions": {"upload": upload}})})
        return self.say({"transfer": "basic", "objects": rows})

    def commit(self, space, name, lines):
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "file":
                    space["files"][value["path"]] = base64.b64decode(value["content"])
                    self.server.sent.append(value["path"])
                case "lfsFile":
                    space["files"][value["path"]] = self.server.large[value["oid"]]
                    self.server.sent.append(value["path"])
                case "deletedFile":
                    del space["files"][value["path"]]
        space["sha"] = hashlib.sha1(repr(space["files"]).encode()).hexdigest()
        return self.say(
            {"commitUrl": f"{self.server.url}/spaces/{name}/commit/{space['sha']}", "commitOid": space["sha"]}
        )

    def say(self, value, code=200, headers=()):
        self.answer(json.dumps(value).encode(), code, {"Content-Type": "application/json", **dict(headers)})

    def answer(self, body, code, headers):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def oid(data):
    """As git names a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def tree(files):
    return [{"type": "file", "path": path, "size": len(data), "oid": oid(data)} for path, data in files.items()]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def new_space(wanted):
    rows = {key: {row["key"]: row["value"] for row in wanted.get(key) or ()} for key in ("variables", "secrets")}
    return {
        "files": {".gitattributes": b"*.safetensors filter=lfs\n"},
        "hardware": wanted.get("hardware"),
        "private": wanted.get("visibility") == "private",
        "volumes": wanted.get("volumes"),
        "stages": ["BUILDING", "RUNNING"],
        "log": {"build": ["no matching distribution for jax"], "run": ["ready"]},
        "sha": "0" * 40,
        **rows,
    }


@pytest.fixture
def spaces():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeSpaces)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.spaces, server.asked, server.sent, server.large = {}, [], [], {}
    server.refuses_to_create, server.prices, server.breaks = None, [], ""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def space_process(spaces, tmp_path):
    """`python -m web.space …` in a process of its own, with the real client and nothing but the address changed."""

    def run(*arguments, token=TOKEN):
        environment = {**os.environ, "HF_ENDPOINT": spaces.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        environment.pop("HF_TOKEN", None)
        environment |= {"HF_TOKEN": token} if token else {}
        command = [sys.executable, "-m", "web.space", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=300
        )

    return run


@pytest.fixture
def space_command(spaces, tmp_path, monkeypatch, capsys):
    """The same in this process, which is ten times as fast: what was given back, printed and typed."""
    monkeypatch.setattr(constants, "ENDPOINT", spaces.url)
    template = spaces.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))  # nobody's own token
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(hub, "POLL_SECONDS", 0.0)

    def run(*arguments, token=TOKEN, typed=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        monkeypatch.setenv("HF_TOKEN", token)
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)  # the client's own, in an upload
            code = main(arguments)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)

    yield run
    close_session()
