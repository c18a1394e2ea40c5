"""A Space on this machine: exactly the files that `web.space` sends, in a fresh folder, with a fresh virtual
environment of nothing but their requirements, under the environment variables of a Space; then a browser asks the
guide a question, inside a frame of huggingface.co.

    python -m tests.run_space [--picture space.png]
"""

import argparse
import os
import re
import shutil
import subprocess
import tempfile
import venv
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from web.space.files import ROOT, app_files, written_files
from web.space.hardware import find_hardware

# huggingface.co/docs/hub/spaces-overview, "Helper environment variables"
ENVIRONMENT = {
    "SPACE_ID": "ada/chat",
    "SPACE_HOST": "ada-chat.hf.space",
    "SPACE_AUTHOR_NAME": "ada",
    "SPACE_REPO_NAME": "chat",
    "ACCELERATOR": "none",
    "CPU_CORES": "2",
    "MEMORY": "16Gi",
    "HF_HUB_OFFLINE": "1",
}
# The frame's page is on this machine, which a page of another one may otherwise not open.
FLAGS = ["--no-sandbox", "--disable-features=LocalNetworkAccessChecks"]
PAGE = "https://huggingface.co/spaces/ada/chat"
FRAME = '<!doctype html><title>Space</title><iframe src="{}" style="width:100%;height:95vh"></iframe>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app, python = Path(folder) / "app", Path(folder) / "python"
        unpack(app)
        venv.create(python, with_pip=True)
        version = re.search(r"sdk_version: (\S+)", (app / "README.md").read_text())[1]
        # As the builder of Spaces does it, in one go with Gradio (huggingface.co/docs/hub/spaces-dependencies).
        wanted = ["-r", str(app / "requirements.txt"), f"gradio[oauth]=={version}", "uvicorn>=0.14.0", "spaces"]
        subprocess.run([python / "bin" / "pip", "install", "-q", *wanted], check=True)
        environment = {"PATH": os.environ["PATH"], "HOME": folder, **ENVIRONMENT, "GLASS_LLAMA_PORT": "0"}
        command = [python / "bin" / "python", "-u", "app.py"]
        with subprocess.Popen(command, cwd=app, env=environment, stdout=subprocess.PIPE, text=True) as running:
            try:
                lines = iter(running.stdout.readline, "")
                found = next(filter(None, (re.search(r"open http://\S+?:(\d+)", line) for line in lines)))
                ask(f"http://127.0.0.1:{found[1]}", options.picture)
            finally:
                running.terminate()


def unpack(app: Path) -> None:
    for path in app_files():
        (app / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, app / path)
    for name, text in written_files("Glass Llama", find_hardware("cpu-basic"), "").items():
        (app / name).write_text(text)


def ask(url: str, picture: Path | None) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.route(PAGE, lambda route: route.fulfill(content_type="text/html", body=FRAME.format(url)))
        page.goto(PAGE)
        talk(page)
        if picture is not None:
            page.screenshot(path=picture)
        browser.close()
    print("answered inside a frame of huggingface.co")


def talk(page: Page) -> None:
    frame = page.frame_locator("iframe")
    box = frame.locator("#message textarea")
    box.fill("What is temperature?", timeout=120_000)
    box.press("Enter")
    expect(frame.locator(".tok").nth(5)).to_be_visible(timeout=120_000)


if __name__ == "__main__":
    main()
