"""Models as a strategy sees them: a line with one number for each bar, made from the lines that the strategy names.

Trading knows a model by the protocol `Model` alone; where one comes from is `mbats.ml`'s affair. A strategy writes

    self.prediction = [predicted(self.p.model, data, rsi=self.rsi[i], atr=self.atr[i] / data.close)
                       for i, data in enumerate(self.datas)]

and reads `self.prediction[i][0]`: the model's *edge* at this bar's close. A regressor's edge is the expected signed return after
costs, as a fraction; a classifier's is P(up) − P(down), in [−1, 1]. It is NaN where there is no model, where a feature is not
formed or not finite, and live where the model failed. Every comparison with NaN is false, so a strategy that asks "more than?"
holds then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

import backtrader as bt
import numpy as np
from numpy.typing import NDArray

from mbats.errors import ConfigError, MbatsError, UsageError
from mbats.market import Floats, Times, to_us
from mbats.trading.lineage import looks_ahead, sources

Floats2D = NDArray[np.float64]
Kind = Literal["regressor", "classifier"]


class Model(Protocol):
    """What predicts. A batch must give what row after row would give, to the bit."""

    def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
        """The edge of each row, shape (n,). `times` (n,) are the starts of the bars, UTC; `features` is (n, k), all finite."""
        ...


class ModelFailed(MbatsError):
    """A model raised, or gave something other than one number for each row."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model: a registered version, and what must be known of it to use it. Pinned for a run.

    `digest` is the SHA-256 over the model's files; `features` are in order. `trained_from` to `trained_to` (UTC, half-open) holds
    all bars that training looked at, those of the labels included. `row_by_row`: a batch of it was not equal to single rows.
    """

    name: str
    version: int
    run_id: str
    digest: str
    features: tuple[str, ...]
    kind: Kind
    strategy: str
    symbols: tuple[str, ...]
    granularity: str
    trained_from: datetime
    trained_to: datetime
    row_by_row: bool = False

    @property
    def reference(self) -> str:
        """`name/version`, which never comes to mean another model."""
        return f"{self.name}/{self.version}"

    def saw(self, start: datetime, end: datetime) -> bool:
        """Whether training looked at any moment of [start, end)."""
        return start < self.trained_to and self.trained_from < end

    def to_json(self) -> dict[str, Any]:
        """As JSON keeps it; `from_json` reads it back equal."""
        return asdict(self) | {
            "features": list(self.features),
            "symbols": list(self.symbols),
            "trained_from": self.trained_from.isoformat(),
            "trained_to": self.trained_to.isoformat(),
        }

    @classmethod
    def from_json(cls, figures: Mapping[str, Any]) -> ModelInfo:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError when it is something else."""
        return cls(
            **{
                **figures,
                "features": tuple(figures["features"]),
                "symbols": tuple(figures["symbols"]),
                "trained_from": datetime.fromisoformat(figures["trained_from"]),
                "trained_to": datetime.fromisoformat(figures["trained_to"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """One row that a model was asked about, bar by bar. `prediction` is NaN exactly where `error` says why."""

    symbol: str
    time: datetime  # start of the bar, UTC
    features: tuple[float, ...]
    prediction: float
    latency_s: float
    error: str | None
    reference: str  # as the strategy writes it
    model: str  # name/version; the reference where no version is known


Opened = tuple[ModelInfo | None, Model]


@dataclass(slots=True)
class ModelSet:
    """The models of a run, by the reference that the strategy writes.

    `on_decision` hears every prediction of a single row; it may be set while the run goes on. When a model fails the run ends
    with ModelFailed; with `hold_on_failure` what it was asked about is NaN instead, and the run goes on.
    """

    models: dict[str, Opened] = field(default_factory=dict)
    on_decision: Callable[[Decision], None] | None = None
    hold_on_failure: bool = False

    def infos(self) -> dict[str, ModelInfo]:
        """What is known of each model that is used, by reference."""
        return {reference: info for reference, (info, _) in sorted(self.models.items()) if info is not None}

    def choose(self, reference: str, names: tuple[str, ...]) -> Opened:
        """The model of a reference. Raises ConfigError when there is none, or its features are not `names` in this order."""
        if reference not in self.models:
            held = ", ".join(sorted(self.models)) or "none"
            raise ConfigError(f"The strategy asks for the model '{reference}', which this run was not given; it has: {held}.")
        info, model = self.models[reference]
        if info is not None and info.features != names:
            raise ConfigError(
                f"Model {info.reference} was trained on the features {', '.join(info.features)}; the strategy declares "
                f"{', '.join(names)}. Nothing was done. Train a new version, or name one that fits this strategy."
            )
        return info, model


def is_reference(parameter: str) -> bool:
    """Whether a parameter of this name refers to a model: `model`, and each that ends in `_model`."""
    return parameter == "model" or parameter.endswith("_model")


def references(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The references among a strategy's parameters, each once; an empty one is none."""
    named = (value for name, value in parameters.items() if is_reference(name))
    return tuple(dict.fromkeys(value for value in named if isinstance(value, str) and value))


def predicted(reference: str, data: Any, **features: Any) -> Prediction:
    """The line of a model's edge on the bars of `data`, from features by name; without a reference it is NaN throughout.

    A feature is one line computed from `data` alone. Raises UsageError for anything else, ConfigError when the run does not
    hold the model or its features are others.
    """
    if not features:
        raise UsageError("predicted() was given no features; name each, as in predicted(self.p.model, data, rsi=self.rsi[i]).")
    for name, line in features.items():
        if not isinstance(line, bt.LineRoot):
            raise UsageError(f"Feature '{name}' is {line!r}, which is no line; give an indicator, or one of its lines.")
        if isinstance(line, bt.LineSeries) and line.lines.size() > 1:
            lines = ", ".join(line.getlinealiases())
            raise UsageError(f"Feature '{name}' has {line.lines.size()} lines ({lines}); name the one that is meant.")
        if looks_ahead(line):
            raise UsageError(f"Feature '{name}' reads a bar that is still to come; a model may not know it.")
        strangers = sorted(source for source in sources(line, data) if source)
        if strangers:
            raise UsageError(
                f"Feature '{name}' is computed from {', '.join(strangers)}, but the prediction is for {data._name}; "
                "the bars of two symbols do not stand side by side. Give features of the same symbol."
            )
    return Prediction(data, *features.values(), reference=reference, names=tuple(features))


class Prediction(bt.Indicator):
    """The indicator that `predicted` makes: by columns it asks the model once about all bars, bar by bar once for each."""

    lines: Any = ("prediction",)
    params: Any = (("reference", ""), ("names", ()))
    plotinfo = dict(subplot=True)

    def __init__(self, *_datas: Any, **_: Any) -> None:
        owner = self._owner
        while not hasattr(owner, "env"):
            owner = owner._owner
        self.names: tuple[str, ...] = self.p.names
        self._set: ModelSet = getattr(owner.env, "models", None) or ModelSet()
        self.model, self._model = "", None
        if self.p.reference:
            info, self._model = self._set.choose(self.p.reference, self.names)
            self.model = info.reference if info else self.p.reference
        getattr(owner.env, "predictions", []).append(self)

    @property
    def symbol(self) -> str:
        """The symbol on whose bars it stands."""
        return str(self.data._name)

    def matrix(self) -> Floats2D:
        """The features of all bars that were computed, shape (n, k); NaN where not all are formed."""
        columns = [np.frombuffer(source.lines[0].array, np.float64) for source in self.datas[1:]]
        matrix = np.column_stack(columns)
        matrix[: self._minperiod - 1] = np.nan
        return matrix

    # --- by columns -----------------------------------------------------------------------------------------------

    def oncestart(self, start: int, end: int) -> None:
        """Nothing: `once` takes the first bar along, so that there is one batch."""

    def once(self, start: int, end: int) -> None:
        if self._model is None:
            return
        features = self.matrix()
        rows = np.flatnonzero(np.isfinite(features).all(axis=1))
        if len(rows):
            try:
                edges = _ask(self._model, self.symbol, self.data.bars.time[rows], features[rows])
            except Exception as error:
                if self._set.hold_on_failure:
                    return  # of history that nobody trades; the next bar says that the model fails
                raise self._failure(f"{len(rows):,} bars of {self.symbol}", error) from error
            np.frombuffer(self.lines.prediction.array, np.float64)[rows] = np.where(np.isfinite(edges), edges, np.nan)

    # --- bar by bar -----------------------------------------------------------------------------------------------

    def next(self) -> None:
        if self._model is None:
            return
        features = tuple(float(source.lines[0][0]) for source in self.datas[1:])
        if all(map(math.isfinite, features)):
            self.lines.prediction[0] = self._ask_one(self._model, features)

    def _ask_one(self, model: Model, features: tuple[float, ...]) -> float:
        moment, edge, problem = self.data.time(), math.nan, None
        began = time.perf_counter()
        try:
            edge = float(_ask(model, self.symbol, np.array([to_us(moment)]), np.array([features], np.float64))[0])
            if not math.isfinite(edge):
                edge, problem = math.nan, f"the prediction is {edge}"
        except Exception as error:
            if not self._set.hold_on_failure:
                raise self._failure(f"the bar of {self.symbol} at {moment:%Y-%m-%d %H:%M} UTC", error) from error
            problem = _words(error)
        latency = time.perf_counter() - began
        if self._set.on_decision is not None:
            self._set.on_decision(Decision(self.symbol, moment, features, edge, latency, problem, self.p.reference, self.model))
        return edge

    def _failure(self, where: str, error: Exception) -> ModelFailed:
        return ModelFailed(
            f"Model {self.model} failed on {where}: {_words(error)}. The run ends here; nothing of it was recorded."
        )


def _ask(model: Model, symbol: str, times: Times, features: Floats2D) -> Floats:
    edges = np.asarray(model.predict(symbol, times, features), np.float64)
    if edges.shape != (len(times),):
        raise ModelFailed(f"{len(times):,} rows were asked about and the answer has the shape {edges.shape}")
    return edges


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, MbatsError) else f"{type(error).__name__}: {error}"
