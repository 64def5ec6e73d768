"""Ports on the loopback address."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


def require_free(port: int, verb: str, other: int) -> None:
    """Raise `InputError` if the port cannot be served on; the message suggests the port `other`."""
    from research.errors import InputError, require

    require(0 < port < 65536, "PORT", port, "give a number between 1 and 65535.")
    try:
        bind(port)
    except PermissionError:
        raise InputError(
            f"PORT={port}: this user has no permission for it; give one above 1023, make {verb} PORT={other}."
        ) from None
    except OSError:
        raise InputError(f"PORT={port}: already in use; give another one, make {verb} PORT={other}.") from None


def bind(port: int) -> None:
    """Bind the port briefly; raise `OSError` if it is not free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # The servers set the same option: a port that was just closed may be bound again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
