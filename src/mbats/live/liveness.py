"""Which threads of a trader run, and how often each met what nobody foresaw: nothing in it ends in silence (R32)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mbats.live.hosting.host import Host
from mbats.live.hosting.metrics import Metrics
from mbats.live.hosting.notices import Notices
from mbats.live.mirror import Mirror

if TYPE_CHECKING:
    from mbats.live.venue import Venue

HUNG_AFTER = 30.0  # seconds without a round of an owner's thread


def threads(host: Host, mirror: Mirror, notices: Notices, venues: Mapping[str, Venue]) -> dict[str, bool]:
    """Whether each thread does its work, by a name for people. One that a restart of the process would not mend is left out:
    an owner that has given up says why itself, and streams whose token is refused wait for a person."""
    found = {"host": host.alive, "mirror": mirror.alive, "notices": notices.alive}
    for name, venue in list(venues.items()):
        for part, alive in venue.threads().items():
            found[f"{part} of {name}"] = alive
    return found


def errors(host: Host, mirror: Mirror, notices: Notices, venues: Mapping[str, Venue]) -> dict[tuple[str, ...], float]:
    """How many errors each part has survived, by its name."""
    found = {("host",): host.crashes, ("mirror",): mirror.failures, ("notices",): notices.figures().failed}
    for name, venue in list(venues.items()):
        for part, count in venue.crashes().items():
            found[(f"{part} of {name}",)] = count
    return {part: float(count) for part, count in found.items()}


def watch(metrics: Metrics, host: Host, mirror: Mirror, notices: Notices, venues: Mapping[str, Venue]) -> None:
    """Show all of it to Prometheus, and how far the clocks differ."""
    metrics.watch_each(
        "thread_alive",
        "Whether the thread does its work.",
        ("thread",),
        lambda: {(name,): float(alive) for name, alive in threads(host, mirror, notices, venues).items()},
    )
    metrics.watch_each(
        "survived_errors",
        "Errors that a part has survived.",
        ("part",),
        lambda: errors(host, mirror, notices, venues),
    )
    metrics.watch_each(
        "clock_skew_seconds",
        "By how much the broker's clock is certainly ahead of this machine's.",
        ("account",),
        lambda: {(name,): venue.skew() for name, venue in list(venues.items())},
    )


def gone(alive: Mapping[str, bool]) -> list[str]:
    """The names of those that do not."""
    return sorted(name for name, runs in alive.items() if not runs)


def in_words(names: Iterable[str]) -> list[str]:
    """One sentence each."""
    return [f"the {name} is gone or hangs" for name in names]
