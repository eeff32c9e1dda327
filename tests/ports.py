"""Which ports of loopback the servers of the tests listen on."""

from __future__ import annotations

import itertools
import random
import socket
from contextlib import suppress

HOST = "127.0.0.1"

# Below those that the system gives away by itself, and each once in a long while: of two servers that start at the same time
# with the same port, one would answer for both.
_ports = itertools.cycle(random.SystemRandom().sample(range(10_000, 32_768), 20_000))  # not by the seed of the tests


def free_port() -> int:
    """Return a port that nobody listens on."""
    for port in _ports:
        with suppress(OSError), socket.create_server((HOST, port)):
            break
    return port
