"""Figures for Prometheus: requests, streams, transactions, faults, and how far the exchange has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mbats.simulator.core.values import Transaction

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The figures of one exchange. Each has a registry of its own, so that several live side by side in a test."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "mbats_simulator_requests",
            "Requests of clients; told is 0 when none was answered.",
            ("listener", "method", "told"),
            registry=registry,
        )
        self._seconds = Histogram(
            "mbats_simulator_request_seconds", "From a request to its answer.", ("listener",), buckets=BUCKETS, registry=registry
        )
        self._transactions = Counter("mbats_simulator_transactions", "Transactions written.", ("type",), registry=registry)
        self._messages = Counter("mbats_simulator_stream_messages", "Messages of streams.", ("stream", "type"), registry=registry)
        self._slow = Counter(
            "mbats_simulator_slow_readers", "Streams ended because their client did not read.", registry=registry
        )
        self._settling = Histogram(
            "mbats_simulator_settle_seconds", "Work to come as far as the clock.", buckets=BUCKETS, registry=registry
        )

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Show a figure that is read when somebody asks."""
        Gauge(f"mbats_simulator_{name}", what, registry=self._registry).set_function(read)

    def answered(self, listener: str, method: str, told: int, seconds: float) -> None:
        self._requests.labels(listener, method, str(told)).inc()
        self._seconds.labels(listener).observe(seconds)

    def written(self, transactions: Iterable[Transaction]) -> None:
        for transaction in transactions:
            self._transactions.labels(transaction["type"]).inc()

    def sent(self, stream: str, kind: str) -> None:
        self._messages.labels(stream, kind).inc()

    def too_slow(self) -> None:
        self._slow.inc()

    def settled(self, seconds: float) -> None:
        self._settling.observe(seconds)

    def text(self) -> bytes:
        """All of it, in the text format of Prometheus."""
        return generate_latest(self._registry)
