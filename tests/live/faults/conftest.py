"""A whole trader for tests of what no owner alone can show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live.faults.whole import Whole, begin_whole
from simulator.running import Running

from mbats.live.mirror import Mirror


@pytest.fixture
def whole(exchange: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Whole]:
    """An exchange with a few bars, and no trader yet: `start` one as a process, or `serve` in this one."""
    monkeypatch.setattr(Mirror.stop, "__defaults__", (0.2,))  # there is no PostgreSQL to wait for
    monkeypatch.setenv("MBATS_ROOT", str(tmp_path / "no project"))
    found = begin_whole(exchange, tmp_path)
    yield found
    found.close()
