"""Who is let in: the keys of programs and the names of the page. Secrets are compared in constant time, and no
message or log has one."""

import hashlib
import hmac
from collections.abc import Callable, Iterable
from pathlib import Path

from starlette.datastructures import Address
from starlette.requests import Request

from web.settings import Settings, SettingsError, listed


def api_keys(settings: Settings) -> tuple[str, ...]:
    """The keys of which programs have to send one; none: everybody is let in. Raises `SettingsError`."""
    keys = listed(settings.api_keys)
    if not settings.api_key_file:
        return keys
    try:
        lines = Path(settings.api_key_file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as problem:
        raise SettingsError(
            f"GLASS_LLAMA_API_KEY_FILE: {settings.api_key_file} cannot be read ({type(problem).__name__}); "
            "expected a text file with one key a line"
        ) from None
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise SettingsError(f"GLASS_LLAMA_API_KEY_FILE: {settings.api_key_file} has no key; write one a line")
    return keys + found


def page_login(settings: Settings) -> Callable[[str, str], bool] | None:
    """Whether a name and password may see the page; None: it asks nobody."""
    pairs = listed(settings.login)
    if not pairs:
        return None
    return lambda name, password: is_one_of(f"{name}:{password}".encode("utf-8", "surrogateescape"), pairs)


def is_one_of(given: bytes, secrets: Iterable[str]) -> bool:
    """Whether `given` is one of them. All are compared, each in a time that does not tell how much is right."""
    return any([hmac.compare_digest(given, secret.encode()) for secret in secrets])


def key_of(request: Request) -> bytes:
    """The key that a program sent, in any letters; empty without one."""
    sent = request.headers.get("Authorization", "").encode("latin-1")  # as Starlette decoded it
    scheme, _, key = sent.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else sent


def key_name(request: Request) -> str:
    """Which key a program sent, without saying it; empty without one."""
    key = key_of(request)
    return hashlib.sha256(key).hexdigest() if key else ""


def address_of(client: Address | None) -> str:
    """Where a request came from; empty if that is not known."""
    return client.host if client else ""
