"""When a process that died starts again, and when it does not any more. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds
STABLE = 300.0  # seconds of life after which an earlier death counts no more
MOST_DEATHS, WINDOW = 5, 60.0  # so many deaths within so many seconds, and a person has to start it again (R35)


@dataclass(frozen=True, slots=True)
class Restarts:
    """What is remembered of earlier ends: when the last deaths were (seconds of any clock), failures in a row, all restarts."""

    deaths: tuple[float, ...] = ()
    failures: int = 0
    count: int = 0


def after_end(restarts: Restarts, now: float, *, lived: float, died: bool, luck: float) -> tuple[Restarts, float | None]:
    """What to remember, and after how many seconds to start again; None when it stays down.

    `lived` is for how many seconds it was ready before it ended, `died` whether the end was its own fault, `luck` a number in
    [0, 1) that spreads the pauses by a quarter to both sides, so that those that died together do not come back together.
    """
    failures = 1 if lived >= STABLE else restarts.failures + 1
    recent = tuple(death for death in restarts.deaths if now - death < WINDOW)
    deaths = (*recent, now) if died else recent
    if len(deaths) >= MOST_DEATHS:
        return Restarts(deaths, failures, restarts.count), None
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
    return Restarts(deaths, failures, restarts.count + 1), pause * (0.75 + luck / 2)


__all__ = ["MOST_DEATHS", "WINDOW", "Restarts", "after_end"]
