"""The models of a live run: loaded from their pinned files, asked bar by bar within a time limit, and every answer told.

A model that raises, or does not answer in time, gives NaN for that bar: the strategy holds, the trader is told why, and the next
bar asks again.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from mbats.errors import ConfigError, MbatsError
from mbats.live.models import Pin, Pins
from mbats.live.wire import Decided, FromStrategy
from mbats.market import Floats, Times
from mbats.trading.model import Decision, Floats2D, Model, ModelFailed, ModelInfo, ModelSet

Send = Callable[[FromStrategy], None]


class TooLate(MbatsError):
    """A model did not answer while its answer was wanted."""


def open_models(pins: Pins, send: Send) -> ModelSet:
    """The models that a strategy may name, each behind its time limit; what they say goes to the trader.

    Raises ConfigError when the files are not those that were pinned, PlatformError when an endpoint does not answer.
    """

    def tell(decision: Decision) -> None:
        edge = decision.prediction
        send(
            Decided(
                decision.symbol,
                decision.time,
                decision.model,
                decision.features,
                edge if math.isfinite(edge) else None,
                decision.latency_s,
                decision.error,
            )
        )

    opened = {reference: open_pin(pin) for reference, pin in pins.models.items()}
    limited = {reference: (info, Limited(model, pins.seconds, len(info.features))) for reference, (info, model) in opened.items()}
    return ModelSet(dict(limited), on_decision=tell, hold_on_failure=True)


def open_pin(pin: Pin) -> tuple[ModelInfo, Model]:
    """A pinned model, in this process or behind its endpoint; nothing but that endpoint is asked."""
    from mbats.ml import registry

    try:
        info, model = registry.load(pin.path)
    except OSError as error:
        raise ConfigError(
            f"The files of model {pin.info.reference} in {pin.path} cannot be read: {error.strerror or error}. `mbats stop` and "
            "`mbats start` fetch it again."
        ) from error
    if (info.reference, info.digest) != (pin.info.reference, pin.info.digest):
        raise ConfigError(
            f"{pin.path} holds model {info.reference} ({info.digest[:12]}), but {pin.info.reference} ({pin.info.digest[:12]}) "
            "was pinned. Nothing was run; remove the folder, and `mbats stop` and `mbats start` fetch it again."
        )
    if not pin.url:
        return info, model
    from mbats.ml.predictor import RestModel

    return info, RestModel.open(pin.url, pin.path, info)


class Limited:
    """A model that has so many seconds for a single row. A batch, which is history that nobody waits for, has all it needs.

    It is asked in one thread of its own. While that is still at work on an answer that came too late, no other row is given to
    it: each fails at once, so that several symbols do not wait for one another.
    """

    def __init__(self, model: Model, seconds: float, features: int = 0) -> None:
        self._model, self._seconds = model, seconds
        self._rows: queue.SimpleQueue[tuple[Future[Floats], str, Times, Floats2D]] = queue.SimpleQueue()
        self._late: tuple[Future[Floats], str] | None = None
        threading.Thread(target=self._work, args=(features,), name="model", daemon=True).start()

    def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
        """As the model; raises TooLate, and ModelFailed for what a thread cannot raise in another."""
        if self._late is not None:
            answer, what = self._late
            if len(times) == 1 and not answer.done():
                raise TooLate(f"it is still at work on {what}, for which it had {self._seconds:g} s")
            self._late = None
        answer = Future()
        self._rows.put((answer, symbol, times, features))
        try:
            return answer.result(self._seconds if len(times) == 1 else None)
        except TimeoutError:
            if answer.done():
                raise  # the model's own
            self._late = answer, f"the bar of {symbol} at {times[0]} UTC"
            raise TooLate(f"it did not answer within {self._seconds:g} s") from None

    def _work(self, features: int) -> None:
        if features:  # the first call is the slow one; nobody waits for this
            with contextlib.suppress(Exception):
                self._model.predict("", np.zeros(1, "datetime64[us]"), np.zeros((1, features)))
        while True:
            answer, symbol, times, rows = self._rows.get()
            try:
                answer.set_result(self._model.predict(symbol, times, rows))
            except Exception as error:
                answer.set_exception(error)
            except BaseException as error:  # such as SystemExit, which must not end a run that goes on without its model
                answer.set_exception(ModelFailed(f"{type(error).__name__}: {error}"))


__all__ = ["Limited", "TooLate", "open_models", "open_pin"]
