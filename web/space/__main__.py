"""The command: `python -m web.space deploy NAME/SPACE --model NAME/MODEL --hardware cpu-upgrade`."""

import argparse
import functools
import getpass
import re
import sys
from collections.abc import Sequence

from huggingface_hub import HfApi, get_token

from llama_core.errors import UserError
from web.space import hub
from web.space.files import is_hub_id
from web.space.hardware import SpaceError, find_hardware

NAME = re.compile(r"[\w.-]+/[\w.-]+")
WAIT_SECONDS = 3600.0


def main(arguments: Sequence[str], prog: str = "python -m web.space") -> int:
    """Run one command. The exit code: 2 if something has to be changed first."""
    given = _parser(prog).parse_args(arguments)
    try:
        if not NAME.fullmatch(given.space):
            raise SpaceError(f"{given.space!r} is no Space; expected NAME/SPACE, such as ada/llama-chat")
        given.run(given)
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Host the app as a Hugging Face Space. Your token is read from HF_TOKEN, from `hf auth login`, or "
        "asked for; it is never an argument and never printed.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = functools.partial(_add, commands)
    deploying = add("deploy", deploy, "create a Space, or bring it up to date")
    deploying.add_argument("--model", default="", help="a Hub id, also name/repo:Q4_K_M [default: the guide]")
    deploying.add_argument("--hardware", default="cpu-basic", help="[default: cpu-basic]")
    deploying.add_argument(
        "--weights",
        choices=("download", "mount"),
        default="download",
        help="fetch the weights at each start, or mount the model's repository read only [default: download]",
    )
    deploying.add_argument(
        "--variable", action="append", default=[], metavar="NAME=VALUE", help="a setting of the app; may be repeated"
    )
    deploying.add_argument("--private", action="store_true", help="only you can see it")
    deploying.add_argument("--dry-run", action="store_true", help="show what would be done, and what it costs")
    deploying.add_argument("--yes", action="store_true", help="do not ask before something that costs money")
    add("status", status, "what it is doing")
    add("logs", show_logs, "the last lines of its log").add_argument(
        "--build", action="store_true", help="of the build instead of the app"
    )
    add("pause", pause, "stop it, and what it costs, until it is restarted")
    add("delete", delete, "delete it for ever").add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _add(commands: argparse._SubParsersAction, name: str, run: object, help: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help)
    command.add_argument("space", metavar="NAME/SPACE")
    command.set_defaults(run=run)
    return command


def deploy(given: argparse.Namespace) -> None:
    """Show the plan, ask where it costs money, send it, wait until it runs."""
    # Imported here because estimating memory needs jax, which takes seconds that the other commands can spare.
    from web.space.plan import describe, make_plan

    find_hardware(given.hardware)
    api = HfApi(token=get_token())
    needs_token = is_hub_id(given.model) and _is_closed(api, given.model)
    variables = dict(_pair(text) for text in given.variable)
    plan = make_plan(given.space, given.model, given.hardware, given.weights, variables, given.private, needs_token)
    price = hub.price_of(api, plan.hardware)
    print(describe(plan, price), flush=True)
    if given.dry_run:
        return
    if price and not given.yes and not _agrees(f"This costs ${price:.2f} an hour. Go on? [y/N] ", "y"):
        raise SpaceError("nothing was done")
    api = _signed_in(api)
    secret = _secret_of_space(str(api.token)) if needs_token else None
    commit = hub.deploy(api, plan, secret, _say)
    hub.wait(api, given.space, commit, WAIT_SECONDS, _say)
    print(f"open https://huggingface.co/spaces/{given.space}")


def status(given: argparse.Namespace) -> None:
    """One line: the stage and the hardware."""
    with hub.explain(f"asking for the state of {given.space}"):
        runtime = _signed_in().get_space_runtime(given.space)
    said = runtime.raw.get("errorMessage")
    print(f"{given.space}: {runtime.stage} on {runtime.hardware or 'no hardware yet'}{f': {said}' if said else ''}")


def show_logs(given: argparse.Namespace) -> None:
    """The end of the log of the app or of its build."""
    print(hub.logs(_signed_in(), given.space, given.build))


def pause(given: argparse.Namespace) -> None:
    """Stop the Space; it costs nothing until somebody restarts it on its page."""
    with hub.explain(f"pausing {given.space}"):
        _signed_in().pause_space(given.space)
    print(f"{given.space} is paused; `deploy` or its page starts it again")


def delete(given: argparse.Namespace) -> None:
    """Delete the Space, after its name was typed again."""
    if not given.yes and not _agrees(f"Type {given.space} to delete it for ever: ", given.space):
        raise SpaceError("nothing was deleted")
    with hub.explain(f"deleting {given.space}"):
        _signed_in().delete_repo(given.space, repo_type="space")
    print(f"{given.space} is deleted")


def _is_closed(api: HfApi, model: str) -> bool:
    """Whether a model's files need a token. Raises `SpaceError`."""
    with hub.explain(f"asking for the model {model}"):
        found = api.model_info(re.split("[@:]", model)[0])
    return bool(found.gated or found.private)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise SpaceError(f"--variable {text}: expected NAME=VALUE")
    return name, value


def _signed_in(api: HfApi | None = None) -> HfApi:
    token = (api.token if api else None) or get_token() or _secret("Your token, with write access: ")
    return HfApi(token=token)


def _secret_of_space(own: str) -> str:
    """The token with which the Space fetches its model: one that is typed, or where nobody can type our own."""
    if not sys.stdin.isatty():
        return own
    return getpass.getpass("Token for the Space itself (read access is enough; empty: yours): ").strip() or own


def _secret(question: str) -> str:
    if not sys.stdin.isatty():
        raise SpaceError("a token is needed: set HF_TOKEN, or run `hf auth login` first")
    return getpass.getpass(question).strip()


def _agrees(question: str, answer: str) -> bool:
    try:
        return input(question).strip().lower() == answer.lower()
    except EOFError:
        return False


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
