"""A model that is asked about what another decides on, and obeyed by nobody: how a challenger is watched before it is promoted.

It is asked after the strategy has decided, in a thread of its own, and delays nothing. A newer version takes its place while the
strategy trades on.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any

import numpy as np

from mbats.errors import ConfigError, MbatsError
from mbats.live.models import Pin
from mbats.live.process.model import open_pin
from mbats.live.process.pipe import PeerGone
from mbats.live.wire import Decided, FromStrategy, NewShadow
from mbats.market import to_us

log = logging.getLogger(__name__)

BEHIND = 1000  # rows that may wait for a shadow

Send = Callable[[FromStrategy], None]


class Shadowing:
    """The shadow of a run, if it has one. All but the loading of a newer one is done by the strategy's thread."""

    def __init__(self, pin: Pin | None, send: Send) -> None:
        """Raises as `open_pin`."""
        self._send = send
        self._shadow = None if pin is None else Shadow(pin, send)
        self._predictions: list[Any] = []
        self._now: tuple[Shadow, list[Any]] | None = None

    def begin(self, predictions: Iterable[Any]) -> None:
        """The strategy's predictions are there. Raises ConfigError when the shadow has other features."""
        self._predictions = list(predictions)
        if self._shadow is not None:
            self._now = self._shadow, self._shadow.choose(self._predictions)

    def look(self, symbols: Collection[str]) -> None:
        """Ask about the bars of these symbols on which the strategy has decided; returns at once."""
        if self._now is not None:
            shadow, asked = self._now
            for prediction in asked:
                if prediction.symbol in symbols:
                    shadow.look(prediction)

    def renew(self, message: NewShadow) -> None:
        """Put another version in its place as soon as that is loaded, which keeps no bar waiting."""
        threading.Thread(target=self._load, args=(message,), name="new shadow", daemon=True).start()

    def _load(self, message: NewShadow) -> None:
        """One that cannot be used leaves the former where it is."""
        try:
            shadow = Shadow(Pin.from_json(message.reference, message.pin), self._send)
            before, self._now = self._now, (shadow, shadow.choose(self._predictions))
        except MbatsError as error:
            log.warning("the shadow stays as it was: %s", error)
            return
        if before is not None:
            before[0].close()


class Shadow:
    """A model that is asked about what another decides on; its words are recorded, and obeyed by nobody."""

    def __init__(self, pin: Pin, send: Send) -> None:
        self.info, self._model = open_pin(pin)
        self._send = send
        self._rows: queue.Queue[tuple[str, datetime, tuple[float, ...]] | None] = queue.Queue(BEHIND)
        threading.Thread(target=self._work, name="shadow", daemon=True).start()

    def choose(self, predictions: Iterable[Any]) -> list[Any]:
        """Of a strategy's predictions those that it can be asked about. Raises ConfigError when there is none."""
        predictions = list(predictions)
        fitting = [each for each in predictions if tuple(each.names) == self.info.features]
        if not fitting:
            declared = " or ".join(sorted({", ".join(each.names) for each in predictions})) or "none"
            raise ConfigError(
                f"The shadow {self.info.reference} was trained on the features {', '.join(self.info.features)}; the strategy "
                f"declares {declared}. Nothing was run; deploy it without this shadow, or train a new version."
            )
        return fitting

    def look(self, prediction: Any) -> None:
        """Ask about the bar on which a prediction of the strategy stands, if its features are formed; returns at once."""
        if len(prediction) < prediction._minperiod:
            return
        row = tuple(float(source.lines[0][0]) for source in prediction.datas[1:])
        if not all(map(math.isfinite, row)):
            return
        moment = prediction.data.time()
        try:
            self._rows.put_nowait((prediction.symbol, moment, row))
        except queue.Full:
            behind = f"it is {BEHIND} bars behind, so it was not asked"
            self._send(Decided(prediction.symbol, moment, self.info.reference, row, None, 0.0, behind, "shadow"))

    def close(self) -> None:
        """Ask about nothing more than what waits already; may wait for a place in the row."""
        self._rows.put(None)

    def _work(self) -> None:
        with contextlib.suppress(PeerGone):
            while (waiting := self._rows.get()) is not None:
                symbol, moment, row = waiting
                began = time.perf_counter()
                edge, problem = self._ask(symbol, moment, row)
                took = time.perf_counter() - began
                self._send(Decided(symbol, moment, self.info.reference, row, edge, took, problem, "shadow"))

    def _ask(self, symbol: str, moment: datetime, row: tuple[float, ...]) -> tuple[float | None, str | None]:
        try:
            (edge,) = self._model.predict(symbol, np.array([to_us(moment)]), np.array([row], np.float64))
        except Exception as error:
            return None, str(error) if isinstance(error, MbatsError) else f"{type(error).__name__}: {error}"
        return (float(edge), None) if math.isfinite(edge) else (None, f"the prediction is {edge}")


__all__ = ["Shadow", "Shadowing"]
