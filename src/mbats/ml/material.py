"""What a training is made of, found once: everything that decides the features, the labels and the model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from mbats.ml.recipe import Recipe
from mbats.riskdb.records import RunSpec
from mbats.trading.session import RunData
from mbats.trading.strategies import LoadedStrategy


@dataclass(frozen=True, slots=True)
class Material:
    """`name` is that of the model. `run_spec` has the strategy's parameters, without any model; `trials` is how many to make."""

    name: str
    strategy: LoadedStrategy
    recipe: Recipe
    trials: int
    run_spec: RunSpec
    data: RunData

    def fingerprint(self) -> str:
        """SHA-256 over bars, strategy, its parameters and the recipe: equal fingerprints mean equal features and labels."""
        parts = {
            "bars": self.data.fingerprint(),
            "strategy": self.strategy.fingerprint,
            "parameters": self.run_spec.parameters,
            "symbols": self.run_spec.symbols,
            "granularity": self.run_spec.granularity,
            "recipe": self.recipe.to_json(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


__all__ = ["Material"]
