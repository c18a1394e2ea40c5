"""Who is let in: the keys of programs and the names of the page. Secrets are compared in constant time, and no
message or log has one."""

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
    return (lambda name, password: is_one_of(f"{name}:{password}", pairs)) if pairs else None


def is_one_of(given: str, secrets: Iterable[str]) -> bool:
    """Whether `given` is one of them. All are compared, each in a time that does not tell how much is right."""
    data = given.encode("utf-8", "surrogateescape")
    return any([hmac.compare_digest(data, secret.encode()) for secret in secrets])


def bearer_key(request: Request) -> str:
    """The key that a program sent, as Starlette decoded the header (latin-1); empty without one."""
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def address_of(client: Address | None) -> str:
    """Where a request came from; empty if that is not known."""
    return client.host if client else ""
