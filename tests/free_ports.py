"""Ports for servers of tests. Each worker of pytest-xdist has its own: none takes another's while its server restarts."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

from mbats.platform.ports import is_free
from mbats.platform.weed import GRPC

FIRST, BAND = 20_000, 5_000  # two bands, and their twins, end below those from which the kernel gives ports to clients


def band() -> range:
    """The ports of this worker. More than two workers share."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 2
    return range(FIRST + number * BAND, FIRST + (number + 1) * BAND)


def free_ports() -> Iterator[int]:
    """Ports of this worker that are free and whose twins are, from a random one on."""
    mine = band()
    for port in range(random.choice(mine[: BAND - 500]), mine.stop):
        if is_free(port) and is_free(port + GRPC):
            yield port


def first_of_many() -> int:
    """A random port of this worker, with hundreds behind it, for a platform that looks for free ones itself."""
    return random.choice(band()[: BAND - 1000 : 100])


__all__ = ["first_of_many", "free_ports"]
