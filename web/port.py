"""The port, bound before anything slow begins: that it is in use is said in a second, not after a download."""

import errno
import os
import socket

from llama_core.errors import UserError


class PortError(UserError, OSError):
    """The address cannot be listened on; one line that says why and what to do."""


def claim_port(host: str, port: int) -> socket.socket:
    """A socket bound to `host` and `port` (0: any free one). Nobody can connect before `open_port`.

    Raises `PortError`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as problem:
        raise PortError(
            f"--host {host}: not an address of this machine ({problem}); use 127.0.0.1 or 0.0.0.0"
        ) from None
    listener = socket.socket(family, kind, protocol)
    if os.name == "posix":  # elsewhere this option lets two programs share one port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as problem:
        listener.close()
        raise _explain(problem, host, port) from None
    return listener


def open_port(listener: socket.socket) -> None:
    """Let connections in. Raises `PortError`: Linux lets two programs claim a port, and only the first one opens it."""
    host, port = listener.getsockname()[:2]
    try:
        listener.listen(2048)
    except OSError as problem:
        raise _explain(problem, host, port) from None


def url_of(listener: socket.socket) -> str:
    """The address to open in a browser on this machine."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def _explain(problem: OSError, host: str, port: int) -> PortError:
    if problem.errno == errno.EADDRINUSE:
        return PortError(f"port {port} on {host} is in use by another program; choose another one with --port")
    if problem.errno == errno.EACCES:
        return PortError(f"port {port} on {host} is not allowed for this user; choose one above 1023 with --port")
    return PortError(f"cannot listen on {host}, port {port} ({problem.strerror}); choose others with --host and --port")
