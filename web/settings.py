"""Every setting of the app, declared once: the command line, the environment and `--help` are made from its fields."""

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llama_core.errors import UserError
from llama_core.runtime.command_line import check_fields, convert, option, read_arguments

# The model that comes with the app, whatever folder it is started from.
GUIDE = str(Path(__file__).parents[1] / "weights" / "guide")


class SettingsError(UserError):
    """A setting that cannot be used; one line that names it, what was found and what is expected."""


def setting(default: Any, env: str, help: str, on_space: Any = None, **limits: Any) -> Any:
    """A field of `Settings`, also read from the environment variable `env`. `on_space` replaces the default on a
    Hugging Face Space (where SPACE_ID is set). `limits` are those of `option`."""
    notes = (env,) if on_space is None else (f"on a Space: {on_space}", env)
    return option(help, default, notes=notes, env=env, on_space=on_space, **limits)


def secret(env: str, help: str) -> Any:
    """A field of `Settings` that is read from the environment variable `env` alone, and never printed."""
    metadata = setting("", env, help, is_secret=True).metadata
    return field(default="", repr=False, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """How one run of the app is set up. Made once at the door and passed down. Raises `SettingsError`."""

    model: str = setting(
        GUIDE,
        "GLASS_LLAMA_MODEL",
        "a Hub id (name/repo, name/repo@revision, for GGUF files name/repo:Q4_K_M), a folder, a GGUF file, or "
        "random:NAME",
    )
    dtype: str = setting(
        "auto",
        "GLASS_LLAMA_DTYPE",
        "number format of the weights; auto: what suits the machine",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    quantize: str = setting(
        "auto",
        "GLASS_LLAMA_QUANTIZE",
        "round the weights to 16, 8 (q8: for CPUs, int8: for GPUs) or 4 bits while they are loaded; none: all of them "
        "in the number format; auto: rounds nothing, and keeps what the files have in bfloat16 or in small numbers as "
        "it is where that is faster",
        choices=("none", "bf16", "int8", "q8", "q4", "auto"),
    )
    kernels: str = setting(
        "auto",
        "GLASS_LLAMA_KERNELS",
        "native kernels for weights smaller than float32, on a CPU: compiled once if there is a C++ compiler",
        choices=("auto", "on", "off"),
    )
    mesh: int = setting(
        0,
        "GLASS_LLAMA_MESH",
        "over how many devices the model is cut, each with a share of every layer; 0: over all accelerators as far as "
        "its heads divide",
        minimum=0,
        maximum=4096,
    )
    hosts: int = setting(
        1,
        "GLASS_LLAMA_HOSTS",
        "how many hosts share the model, each started with the same settings; 0: SLURM, Open MPI or Kubernetes says it",
        minimum=0,
        maximum=4096,
    )
    host_id: int = setting(0, "GLASS_LLAMA_HOST_ID", "which of the hosts this is; 0 serves people", minimum=0)
    coordinator: str = setting(
        "", "GLASS_LLAMA_COORDINATOR", "address:port of host 0 where the hosts find each other; any free port"
    )
    slots: int = setting(
        0,
        "GLASS_LLAMA_SLOTS",
        "how many replies are written at the same time; 0: 4, on a GPU up to 32 as memory holds them",
        minimum=0,
        maximum=256,
    )
    max_seq_len: int = setting(
        0,
        "GLASS_LLAMA_MAX_SEQ_LEN",
        "context length: prompt and reply together, in tokens; 0: what the model was made for, "
        "as far as memory holds it, up to 4096",
        minimum=0,
        maximum=1 << 20,
    )
    host: str = setting(
        "127.0.0.1", "GLASS_LLAMA_HOST", "address to listen on; 0.0.0.0 lets other machines in", on_space="0.0.0.0"
    )
    port: int = setting(7860, "GLASS_LLAMA_PORT", "port to listen on; 0 takes any free one", minimum=0, maximum=65535)
    title: str = setting("Glass Llama", "GLASS_LLAMA_TITLE", "name shown on the page")
    allowed_hosts: str = setting(
        "",
        "GLASS_LLAMA_ALLOWED_HOSTS",
        "other names by which browsers may ask for the page, separated by commas, such as that of a proxy",
    )
    switching: str = setting(
        "auto",
        "GLASS_LLAMA_SWITCHING",
        "whether visitors may load another model; auto: where only this machine can open the page",
        choices=("auto", "on", "off"),
    )
    trusted_proxies: str = setting(
        "",
        "GLASS_LLAMA_TRUSTED_PROXIES",
        "addresses or networks of proxies, separated by commas, whose X-Forwarded-For tells who asks",
    )
    root_path: str = setting(
        "", "GLASS_LLAMA_ROOT_PATH", "path under which a proxy shows the page, such as /chat, if it is not /"
    )
    cors_origins: str = setting(
        "",
        "GLASS_LLAMA_CORS_ORIGINS",
        "origins, separated by commas, whose pages may use the API from a browser, such as https://app.example.org",
    )
    max_request_mb: int = setting(
        20, "GLASS_LLAMA_MAX_REQUEST_MB", "the largest request that is read, in MB", minimum=1, maximum=1000
    )
    max_queue: int = setting(
        64, "GLASS_LLAMA_MAX_QUEUE", "how many requests may wait for a slot", minimum=1, maximum=100_000
    )
    max_reply_seconds: int = setting(
        3600, "GLASS_LLAMA_MAX_REPLY_SECONDS", "how long a reply may take, waiting included", minimum=1, maximum=86_400
    )
    max_messages: int = setting(
        1000, "GLASS_LLAMA_MAX_MESSAGES", "messages in one request of a program", minimum=1, maximum=1_000_000
    )
    max_prompt_tokens: int = setting(
        0, "GLASS_LLAMA_MAX_PROMPT_TOKENS", "tokens in a prompt of a program; 0: what the context holds", minimum=0
    )
    max_reply_tokens: int = setting(
        0, "GLASS_LLAMA_MAX_REPLY_TOKENS", "tokens in a reply to a program; 0: what the context holds", minimum=0
    )
    requests_per_minute: int = setting(
        0, "GLASS_LLAMA_REQUESTS_PER_MINUTE", "requests of one program or address a minute; 0: any number", minimum=0
    )
    tokens_per_minute: int = setting(
        0,
        "GLASS_LLAMA_TOKENS_PER_MINUTE",
        "tokens, read and written, of one program or address a minute; 0: any number",
        minimum=0,
    )
    max_streams: int = setting(
        0,
        "GLASS_LLAMA_MAX_STREAMS",
        "requests of one program or address that are answered at the same time; 0: any number",
        minimum=0,
    )
    log: str = setting(
        "none",
        "GLASS_LLAMA_LOG",
        "json: a line of JSON on stdout for each HTTP request, without texts and keys",
        choices=("none", "json"),
    )
    api_keys: str = secret(
        "GLASS_LLAMA_API_KEY", "a key, or several separated by commas, one of which programs have to send"
    )
    api_key_file: str = secret("GLASS_LLAMA_API_KEY_FILE", "a file with one such key a line")
    login: str = secret(
        "GLASS_LLAMA_LOGIN", "NAME:PASSWORD, or several separated by commas, one of which the page then asks for"
    )
    system_prompt: str = setting("", "GLASS_LLAMA_SYSTEM_PROMPT", "system prompt that the page starts with")

    def __post_init__(self) -> None:
        check_fields(self, SettingsError)
        for row in fields(self):
            _CHECKS.get(row.name, lambda text: None)(getattr(self, row.name))

    @property
    def is_local(self) -> bool:
        """Whether visitors are the people at this machine: nothing else can connect, and no proxy is announced."""
        return is_loopback(self.host) and not self.allowed_hosts

    @property
    def may_switch(self) -> bool:
        """Whether visitors may load another model. On several hosts there is one for good."""
        return self.hosts == 1 and self._switching_allows

    @property
    def _switching_allows(self) -> bool:
        return self.is_local if self.switching == "auto" else self.switching == "on"


def listed(text: str) -> tuple[str, ...]:
    """The entries of a setting that is a list separated by commas."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def _check_proxies(text: str) -> None:
    for entry in listed(text):
        try:
            ipaddress.ip_network(entry)
        except ValueError:
            # Not "*" either: whoever connects could then say any address.
            raise SettingsError(
                f"--trusted-proxies has {entry!r}; expected addresses or networks such as 10.0.0.0/8"
            ) from None


def _check_root_path(text: str) -> None:
    if text and (not text.startswith("/") or text.endswith("/")):
        raise SettingsError(f"--root-path is {text!r}; expected a path such as /chat")


def _check_origins(text: str) -> None:
    for entry in listed(text):
        parts = urlsplit(entry)
        if not parts.scheme or not parts.netloc or entry != f"{parts.scheme}://{parts.netloc}":
            raise SettingsError(f"--cors-origins has {entry!r}; expected origins such as https://app.example.org")


def _check_login(text: str) -> None:
    if not all(name and password for name, _, password in (entry.partition(":") for entry in listed(text))):
        raise SettingsError("GLASS_LLAMA_LOGIN has an entry that is not NAME:PASSWORD; correct it")


_CHECKS = {
    "trusted_proxies": _check_proxies,
    "root_path": _check_root_path,
    "cors_origins": _check_origins,
    "login": _check_login,
}


def _secrets() -> str:
    rows = [row for row in fields(Settings) if row.metadata.get("is_secret")]
    return "; ".join(f"{row.metadata['env']}: {row.metadata['help']}" for row in rows)


def is_loopback(host: str) -> bool:
    """Whether an address is one that only this machine can reach. Other names are not looked up: false."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the command line, else from the environment, else the defaults.

    An empty environment variable counts as absent. `--help` prints and exits. Raises `SettingsError`.
    """
    values = read_arguments(
        Settings,
        arguments,
        SettingsError,
        prog="python app.py",
        description="Chat with a Llama that runs in JAX, in your browser.",
        epilog="Every setting can also be given by the environment variable named beside it, and these, which are "
        f"secret, only so: {_secrets()}. Instead of settings, the first word can be a command: train (a model of your "
        "own), space (host the app on Hugging Face) or bench; `train --help` and so on tell more.",
    )
    for row in fields(Settings):
        env, on_space = row.metadata["env"], row.metadata["on_space"]
        if row.name in values:
            continue
        if environment.get(env):
            values[row.name] = convert(row, environment[env], env, SettingsError)
        elif environment.get("SPACE_ID") and on_space is not None:
            values[row.name] = on_space
    return Settings(**values)
