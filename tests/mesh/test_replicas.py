"""The files in docs/ for several machines: as Kubernetes reads them, and in a real nginx where there is one."""

import contextlib
import http.server
import re
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import fields
from pathlib import Path

import httpx
import pytest
import yaml

from web.settings import Settings

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx")


@pytest.fixture(scope="module")
def manifest():
    """Kind and name → object."""
    found = list(yaml.safe_load_all((ROOT / "docs" / "kubernetes.yaml").read_text()))
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(by_name) == len(found)
    return by_name


def test_what_the_manifest_refers_to_is_in_it(manifest):
    for kind, name in (("Deployment", "glass-llama"), ("StatefulSet", "glass-llama-hosts")):
        template = manifest[kind, name]["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert manifest[kind, name]["spec"]["selector"]["matchLabels"] == labels
        assert labels.items() <= manifest["Service", name]["spec"]["selector"].items()
        [container] = template["spec"]["containers"]
        told = {one["name"]: one.get("value") for one in container["env"]}
        assert set(told) - {"HF_TOKEN"} <= {row.metadata["env"] for row in fields(Settings)}
        assert container["ports"] == [{"name": "http", "containerPort": Settings().port}]
    hosts = manifest["StatefulSet", "glass-llama-hosts"]["spec"]
    assert told["GLASS_LLAMA_HOSTS"] == str(hosts["replicas"])
    assert told["GLASS_LLAMA_COORDINATOR"].startswith(f"glass-llama-hosts-0.{hosts['serviceName']}:")
    assert manifest["Service", hosts["serviceName"]]["spec"]["clusterIP"] == "None"
    [rule] = manifest["Ingress", "glass-llama"]["spec"]["rules"]
    assert ("Service", rule["http"]["paths"][0]["backend"]["service"]["name"]) in manifest


class Replica(http.server.BaseHTTPRequestHandler):
    """Answers with its own name."""

    def do_GET(self):
        body = str(self.server.server_port).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def balancer(tmp_path):
    """docs/nginx.conf before three replicas; its address, and a function that ends one of them."""
    with contextlib.ExitStack() as stack:
        replicas = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replica) for _ in range(3)]
        for replica in replicas:
            threading.Thread(target=replica.serve_forever, daemon=True).start()
            stack.callback(replica.server_close)
            stack.callback(replica.shutdown)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        text = (ROOT / "docs" / "nginx.conf").read_text().replace("listen 80;", f"listen 127.0.0.1:{port};")
        servers = "".join(f"server 127.0.0.1:{replica.server_port};\n" for replica in replicas)
        text, count = re.subn(r"server 10\.0\.0\.1:7860;\s+server 10\.0\.0\.2:7860;", servers, text)
        assert count == 1
        paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy"))
        outside = f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}"
        whole = f"{outside} http {{ access_log off; {paths} {text} }}"
        (tmp_path / "nginx.conf").write_text(whole)
        process = subprocess.Popen([NGINX, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)])
        stack.callback(process.wait)
        stack.callback(process.terminate)
        until = time.monotonic() + 30
        while not is_open(port):
            assert process.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"


@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_a_browser_and_a_conversation_stay_with_one_replica(balancer):
    seen = set()
    for _ in range(12):
        with httpx.Client(base_url=balancer) as browser:
            seen.add(frozenset(browser.request(method, "/").text for method in ("GET", "POST", "GET", "POST")))
    assert all(len(replicas) == 1 for replicas in seen) and len(seen) > 1
    by_conversation = [
        {httpx.post(balancer, headers={"X-Conversation-Id": f"chat-{chat}"}).text for _ in range(3)}
        for chat in range(12)
    ]
    assert all(len(replicas) == 1 for replicas in by_conversation) and len(set.union(*by_conversation)) > 1
