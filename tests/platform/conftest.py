"""One running platform for the tests of a module."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from platforms import Platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that is up, shared by the tests of a module: each leaves it up."""
    platform = Platform(tmp_path_factory.mktemp("platform") / "state of one")
    platform.prefer_ports(random.randrange(20_000, 30_000, 100))
    first = platform.mbats("up")
    (platform.home / "first start").write_text(first.stdout)
    assert first.returncode == 0, first.stdout
    yield platform
    platform.kill()
