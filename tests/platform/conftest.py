"""One running platform for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from free_ports import first_of_many
from platforms import Platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that is up, shared by the tests of a module: each leaves it up."""
    platform = Platform(tmp_path_factory.mktemp("platform") / "state of one")
    platform.prefer_ports(first_of_many())
    first = platform.mbats("up")
    (platform.home / "first start").write_text(first.stdout)
    assert first.returncode == 0, first.stdout
    yield platform
    platform.kill()
