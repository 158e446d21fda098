"""Which models a finished backtest used, whether they had seen its period, and what they said where it mattered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from mbats.market import Granularity, bar_ends, to_datetime
from mbats.riskdb.model_records import ModelDecision
from mbats.riskdb.records import RunSpec
from mbats.trading.engine import RunCerebro
from mbats.trading.feeds import BarFeed
from mbats.trading.model import ModelInfo, Prediction


@dataclass(frozen=True, slots=True)
class UsedModels:
    """`names` are `name/version`, or the reference where no version is known; `infos` is what is known, by reference.

    `start` and `end` are the period that was traded, from the start of its first bar to the end of its last, UTC.
    """

    names: tuple[str, ...]
    infos: dict[str, ModelInfo]
    start: datetime
    end: datetime

    @property
    def had_seen(self) -> list[ModelInfo]:
        """The models that were trained on any of the period, each once."""
        return list({info.reference: info for info in self.infos.values() if info.saw(self.start, self.end)}.values())

    def warnings(self) -> Iterator[str]:
        """A sentence for each model that knew what was to come."""
        for info in self.had_seen:
            yield (
                f"In sample: {info.reference} was trained on {info.trained_from:%Y-%m-%d} to {info.trained_to:%Y-%m-%d}, and "
                f"this run goes from {self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}; where they overlap it shows memory, not skill"
            )


def used_models(spec: RunSpec, cerebro: RunCerebro, feeds: Sequence[BarFeed]) -> UsedModels:
    """The models that the strategy asked for, whether or not its features were ever formed."""
    asked = [prediction for prediction in cerebro.predictions if prediction.model]
    known = cerebro.models.infos()
    last = np.array([max(feed.bars.time[-1] for feed in feeds)])
    return UsedModels(
        names=tuple(sorted({prediction.model for prediction in asked})),
        infos={reference: known[reference] for reference in sorted({each.p.reference for each in asked}) if reference in known},
        start=to_datetime(min(feed.bars.time[0] for feed in feeds)),
        end=to_datetime(bar_ends(Granularity(spec.granularity), last)[0]),
    )


def decisions_at_orders(cerebro: RunCerebro, ordered: Mapping[str, set[int]]) -> tuple[ModelDecision, ...]:
    """What the models said at the bars (positions, by symbol) at which an order was sent, by time, symbol and model."""
    found = {
        (decision.time, decision.symbol, decision.model): decision
        for prediction in cerebro.predictions
        if prediction.model
        for decision in _decisions(prediction, sorted(ordered.get(prediction.symbol, ())))
    }
    return tuple(found[key] for key in sorted(found))


def _decisions(prediction: Prediction, bars: Sequence[int]) -> Iterator[ModelDecision]:
    matrix, edges, times = prediction.matrix(), prediction.lines.prediction.array, prediction.data.bars.time
    for bar in bars:
        features, edge = matrix[bar], edges[bar]
        if not np.isfinite(features).all():
            continue  # the model was not asked
        finite = bool(np.isfinite(edge))
        yield ModelDecision(
            symbol=prediction.symbol,
            time=to_datetime(times[bar]),
            role="model",
            model=prediction.model,
            features=tuple(features.tolist()),
            prediction=float(edge) if finite else None,
            error=None if finite else "the prediction is not finite",
        )
