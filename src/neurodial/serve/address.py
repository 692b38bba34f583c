"""Addresses: where a server listens, what a header names. Needs no package of the server's."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from neurodial.errors import ServingError


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        ServingError: the address is taken or not this machine's.
    """
    try:
        if not 0 <= port <= 65535:
            raise OverflowError("ports go from 0 to 65535")
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(256)
    except (OSError, OverflowError) as error:
        raise ServingError(
            f"The server can't listen on {host}, port {port}; the address can't be used: {error}.",
            wanted="an address of this machine and a free port",
            fix="Choose another --port; 0 takes a free one.",
        ) from error
    return listening


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_numeric(name: str) -> bool:
    """Whether a name is an address in numbers: DNS rebinding needs a name.

    Example:
        >>> is_numeric("::1"), is_numeric("localhost")
        (True, False)
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def host_name(host: str) -> str:
    """The name in a `Host` header, without its port; nothing where it is malformed.

    Example:
        >>> host_name("localhost:8421"), host_name("[::1")
        ('localhost', '')
    """
    return (_parts(f"//{host}") or ("", None))[0]


def is_own_origin(origin: str, host: str) -> bool:
    """Whether an `Origin` header is that of a page of the server that the `Host` header names.

    Example:
        >>> is_own_origin("http://localhost:8421", "localhost:8421"), is_own_origin("http://[", "localhost:8421")
        (True, False)
    """
    own = _parts(f"//{host}")
    return own is not None and origin.startswith(("http://", "https://")) and _parts(origin) == own


def _parts(address: str) -> tuple[str, int | None] | None:
    try:
        split = urlsplit(address)
        return (split.hostname or "", split.port)
    except ValueError:
        return None
