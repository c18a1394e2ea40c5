"""Talking to the Hub about a Space: make it, send what changed, wait until it runs, say what went wrong."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, SpaceHardware, SpaceRuntime
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from llama_core.checkpoint.download import first_line
from web.space.files import MODEL, ROOT
from web.space.hardware import Hardware, SpaceError

if TYPE_CHECKING:
    from web.space.plan import Plan

POLL_SECONDS = 2.0
OURS = "llama_core/engine/engine.py"  # a Space that has this file is one of this app
FAILED = {"BUILD_ERROR", "RUNTIME_ERROR", "CONFIG_ERROR", "NO_APP_FILE", "DELETING"}
LOG_LINES = 40

# What the Hub's refusals mean here; the status is all that tells them apart.
MEANINGS = {
    401: "the token is wrong or has expired; get one with write access at https://huggingface.co/settings/tokens",
    402: "this needs a paid plan: any Space a PRO account (or a Team or Enterprise organisation), and hardware that "
    "costs something a payment method; see https://huggingface.co/settings/billing",
    403: "the token may not do this; it needs write access to the Spaces of this name",
    404: "there is no such Space, or the token may not see it",
    409: "the name is taken",
    429: "the Hub asks to slow down; try again in some minutes",
}


@contextlib.contextmanager
def explain(what: str) -> Iterator[None]:
    """Raises `SpaceError` in the place of the errors of the client and the network."""
    try:
        yield
    except SpaceError:
        raise
    except HfHubHTTPError as problem:
        status = problem.response.status_code
        said = f" ({problem.server_message})" if problem.server_message else ""
        meaning = MEANINGS.get(status, "try again later; https://status.huggingface.co has its state")
        raise SpaceError(f"{what}: the Hub says {status}{said}: {meaning}") from None
    except Exception as problem:  # of the HTTP library, which differs between versions of the client
        raise SpaceError(f"{what}: {first_line(problem)}; check the network and start again") from None


def deploy(api: HfApi, plan: "Plan", token_for_space: str | None, say: Callable[[str], None]) -> str | None:
    """Create the Space or bring it up to date. Returns the commit that it will run. Raises `SpaceError`."""
    secrets = [{"key": "HF_TOKEN", "value": token_for_space}] if token_for_space else []
    with explain(f"creating {plan.space}"):
        there = _files_of(api, plan.space)
        if there is None:
            api.create_repo(
                plan.space,
                repo_type="space",
                space_sdk="gradio",
                private=plan.is_private,
                space_hardware=SpaceHardware(plan.hardware.name),
                space_secrets=secrets or None,
                space_variables=[{"key": name, "value": value} for name, value in plan.variables.items()] or None,
                space_volumes=plan.volumes or None,
            )
    if there is not None:
        _reconfigure(api, plan, secrets)
    say("sending the files" if there is None else "updating the files")
    with explain(f"sending the files to {plan.space}"):
        commit = _send(api, plan, there or [])
    if there is not None:
        _start_again(api, plan.space)
    return commit


def _files_of(api: HfApi, space: str) -> list[str] | None:
    """What the Space holds, None if there is none. Raises `SpaceError` if it is another app's."""
    try:
        names = api.list_repo_files(space, repo_type="space")
    except RepositoryNotFoundError:
        return None
    if OURS not in names and set(names) - {".gitattributes", "README.md"}:
        raise SpaceError(f"{space} exists and holds another app; choose another name, or delete it first")
    return names


def _reconfigure(api: HfApi, plan: "Plan", secrets: list[dict[str, str]]) -> None:
    """Only what differs: each change restarts the app."""
    with explain(f"setting up {plan.space}"):
        if plan.is_private:
            api.update_repo_settings(plan.space, repo_type="space", private=True)
        known = api.get_space_variables(plan.space)
        if MODEL in known and MODEL not in plan.variables:
            api.delete_space_variable(plan.space, MODEL)
        for name, value in plan.variables.items():
            if name not in known or known[name].value != value:
                api.add_space_variable(plan.space, name, value)
        for secret in secrets:
            api.add_space_secret(plan.space, secret["key"], secret["value"])
        runtime = api.get_space_runtime(plan.space)
        if plan.hardware.name not in (runtime.requested_hardware, runtime.hardware):
            api.request_space_hardware(plan.space, SpaceHardware(plan.hardware.name))
        if plan.volumes and runtime.volumes != plan.volumes:
            api.set_space_volumes(plan.space, plan.volumes)


def _send(api: HfApi, plan: "Plan", there: list[str]) -> str | None:
    """One commit. The client asks the Hub for what it has already, so that only changed files travel, and large ones
    that a broken connection left behind are not sent again."""
    wanted = {path.as_posix() for path in plan.files} | set(plan.written)
    gone = set(there) - wanted - {".gitattributes"}
    additions = [CommitOperationAdd(path.as_posix(), ROOT / path) for path in plan.files]
    additions += [CommitOperationAdd(name, text.encode()) for name, text in plan.written.items()]
    deletions = [CommitOperationDelete(name) for name in sorted(gone)]
    commit = api.create_commit(
        plan.space, [*additions, *deletions], repo_type="space", commit_message="Glass Llama, as deployed"
    )
    return commit.oid


def _start_again(api: HfApi, space: str) -> None:
    """A paused Space starts for nobody but its owner, and the state of one that has failed would be taken for that of
    the new version."""
    with explain(f"starting {space}"):
        if api.get_space_runtime(space).stage in FAILED | {"PAUSED"}:
            api.restart_space(space)


def wait(api: HfApi, space: str, commit: str | None, seconds: float, say: Callable[[str], None]) -> SpaceRuntime:
    """Until the Space runs this commit, saying each new stage. Raises `SpaceError` with its last log lines if it
    fails, or when the time is over."""
    began, shown = time.monotonic(), ""
    while True:
        with explain(f"asking for the state of {space}"):
            runtime = api.get_space_runtime(space)
        stage = str(runtime.stage)
        if stage != shown:
            shown = stage
            say(f"{time.monotonic() - began:6.0f} s  {stage.lower().replace('_', ' ')}")
        if stage in FAILED:
            raise SpaceError(f"{space} has not started ({stage})\n{_failure(api, space, runtime)}")
        # The old version may still run while the new one is being built.
        is_new = commit is None or runtime.raw.get("sha", commit) == commit
        if stage in ("SLEEPING", "PAUSED", "STOPPED") or (stage == "RUNNING" and is_new):
            return runtime
        if time.monotonic() - began > seconds:
            raise SpaceError(f"{space} is still {stage.lower()} after {seconds:.0f} s; `status` and `logs` tell more")
        time.sleep(POLL_SECONDS)


def _failure(api: HfApi, space: str, runtime: SpaceRuntime) -> str:
    said = str(runtime.raw.get("errorMessage") or "")
    return f"{said}\n{logs(api, space, build=runtime.stage == 'BUILD_ERROR')}".strip()


def logs(api: HfApi, space: str, build: bool) -> str:
    """The last lines of the log of the build, or of the app. Raises `SpaceError`."""
    with explain(f"reading the log of {space}"):
        lines = "".join(api.fetch_space_logs(space, build=build)).splitlines()
    return "\n".join(lines[-LOG_LINES:])


def price_of(api: HfApi, hardware: Hardware) -> float:
    """In dollars an hour, as the Hub says today, or from our table where it cannot be asked."""
    try:
        with explain("asking for prices"):
            rows = api.list_spaces_hardware()
    except SpaceError:
        return hardware.price
    units = {"minute": 60.0, "hour": 1.0, "second": 3600.0}
    found = {row.name: row.unit_cost_usd * units.get(row.unit_label, 1.0) for row in rows}
    return found.get(hardware.name, hardware.price)
