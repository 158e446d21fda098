"""Figures of the trader for Prometheus. Whoever counts calls a method; what is read when somebody asks is given as a function.

A figure that cannot be read is left out and counted, so that one broken part hides no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

log = logging.getLogger(__name__)

BAR_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 300.0)
CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Values = Callable[[], Mapping[tuple[str, ...], float]]


@dataclass(slots=True, eq=False)
class _Watched:
    """Gauges that are read when somebody asks."""

    unreadable: Counter
    gauges: list[tuple[str, str, Sequence[str], Values]] = field(default_factory=list)

    def collect(self) -> Iterable[Metric]:
        for name, what, labels, read in self.gauges:
            family = GaugeMetricFamily(name, what, labels=labels)
            try:
                values = dict(read())
            except Exception:
                log.exception("the figure %s cannot be read; the others are shown", name)
                self.unreadable.labels(name).inc()
                continue
            for key, value in values.items():
                family.add_metric(key, value)
            yield family


class Metrics:
    """The figures of one trader; each has a registry of its own, so that several live side by side in a test."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"mbats_trader_{name}", what, labels, registry=registry)

        self._orders = counter("orders", "Orders by what became of them.", "account", "state")
        self._fills = counter("fills", "Fills, by whose they are; empty is nobody's of ours.", "account", "owner")
        self._refusals = counter("gate_refusals", "Orders that the gate refused, by its reason.", "deployment", "reason")
        self._streams = counter("stream_changes", "Streams that went up or down.", "account", "stream", "to")
        self._deaths = counter("deaths", "Processes of strategies that ended unasked.", "deployment")
        self._alarms = counter("alarms", "Alarms by level.", "level")
        self._errors = counter("errors", "Errors that were survived, by the part in which they happened.", "part")
        self._unreadable = counter("unreadable_figures", "Figures that could not be read.", "figure")
        self._bar_seconds = Histogram(
            "mbats_trader_bar_seconds",
            "From the end of a bar to the moment at which its strategy got it.",
            ("granularity",),
            buckets=BAR_SECONDS,
            registry=registry,
        )
        self._order_seconds = Histogram(
            "mbats_trader_order_seconds",
            "From a decision to the broker's answer.",
            ("account",),
            buckets=CALL_SECONDS,
            registry=registry,
        )
        self._watched = _Watched(self._unreadable)
        registry.register(self._watched)

    # --- What is counted ---------------------------------------------------------------------------------------------------

    def order(self, account: str, state: str) -> None:
        self._orders.labels(account, state).inc()

    def fill(self, account: str, owner: str) -> None:
        self._fills.labels(account, owner).inc()

    def refused(self, deployment: str, reason: str) -> None:
        self._refusals.labels(deployment, reason).inc()

    def stream(self, account: str, stream: str, *, up: bool) -> None:
        self._streams.labels(account, stream, "up" if up else "down").inc()

    def died(self, deployment: str) -> None:
        self._deaths.labels(deployment).inc()

    def alarm(self, level: str) -> None:
        self._alarms.labels(level).inc()

    def error(self, part: str) -> None:
        self._errors.labels(part).inc()

    def bar(self, granularity: str, seconds: float) -> None:
        self._bar_seconds.labels(granularity).observe(seconds)

    def answered(self, account: str, seconds: float) -> None:
        self._order_seconds.labels(account).observe(seconds)

    # --- What is read when somebody asks -----------------------------------------------------------------------------------

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Show one figure. `read` runs in the thread of whoever asks, and must not wait."""
        self.watch_each(name, what, (), lambda: {(): read()})

    def watch_each(self, name: str, what: str, labels: Sequence[str], read: Values) -> None:
        """Show a figure for each of several, such as accounts: `read` gives values by the values of the labels."""
        self._watched.gauges.append((f"mbats_trader_{name}", what, tuple(labels), read))

    def text(self) -> bytes:
        """All of it, in the text format of Prometheus."""
        return generate_latest(self._registry)


__all__ = ["Metrics"]
