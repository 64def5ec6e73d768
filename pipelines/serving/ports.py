"""Ports on the loopback address."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


def require_free(port: int, verb: str, other: int) -> None:
    """`InputError` for a port that cannot be served on; `other` is one to try."""
    from research.errors import InputError, require

    require(0 < port < 65536, "PORT", port, "give a number between 1 and 65535.")
    try:
        bind(port)
    except PermissionError:
        raise InputError(
            f"PORT={port}: this user may not serve on it; give one above 1023, make {verb} PORT={other}."
        ) from None
    except OSError:
        raise InputError(f"PORT={port}: already in use; give another one, make {verb} PORT={other}.") from None


def bind(port: int) -> None:
    """Take the port for a moment; `OSError` if it is not free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a port that was just closed may be taken again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
