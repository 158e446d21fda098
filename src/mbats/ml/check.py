"""A few rows with what the model made of them when it was trained: whoever opens or serves it can see that it still does.

`python -m mbats.ml.check FOLDER` opens a fetched model as a strategy's process does, and prints one line of JSON.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mbats.errors import ConfigError, MbatsError
from mbats.market import Floats
from mbats.ml.files import CHECK
from mbats.trading.model import Floats2D, Model

ROWS = 32
TIMED = 300  # predictions of one row; the 99th percentile of them is between the third and the fourth slowest
WARM = 20  # the first ones load what is loaded late


@dataclass(frozen=True, slots=True)
class Check:
    """Feature rows (n, k) and the edges (n,) that the model gave for them when it was trained."""

    names: tuple[str, ...]
    rows: Floats2D
    edges: Floats

    def different(self, found: Floats) -> int:
        """How many of these edges are not, bit for bit, those recorded."""
        if found.shape != self.edges.shape:
            return len(self.edges)
        return sum(one.hex() != other.hex() for one, other in zip(found.tolist(), self.edges.tolist(), strict=True))

    def to_json(self) -> str:
        """As `read_check` reads it, with every bit."""
        return json.dumps({"features": list(self.names), "rows": self.rows.tolist(), "edges": self.edges.tolist()}, indent=1)


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of opening a model: of `rows` rows `different` gave another edge. Latencies are of one row, in seconds."""

    rows: int
    different: int
    p50: float
    p99: float


def choose_rows(features: Floats2D, count: int = ROWS) -> Floats2D:
    """Rows spread evenly over the samples."""
    return np.ascontiguousarray(features[np.unique(np.linspace(0, len(features) - 1, min(count, len(features))).astype(int))])


def read_check(folder: Path) -> Check:
    """What lies in `check.json` beside a model's files. Raises ConfigError when it cannot be read."""
    try:
        kept = json.loads((folder / CHECK).read_text(encoding="utf-8"))
        rows = np.array(kept["rows"], np.float64).reshape(-1, len(kept["features"]))
        return Check(tuple(kept["features"]), rows, np.array(kept["edges"], np.float64))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder / CHECK} cannot be read: {type(error).__name__}: {error}. Delete the folder; the model is fetched again."
        ) from error


def check_model(model: Model, check: Check, *, timed: int = TIMED) -> Checked:
    """Compare batch and single rows with what was recorded, and time single rows."""
    moment = np.array(["2000-01-01"], "datetime64[us]")
    batch = model.predict("", np.repeat(moment, len(check.rows)), check.rows)
    single = np.concatenate([model.predict("", moment, check.rows[row : row + 1]) for row in range(len(check.rows))])
    seconds = []
    for number in range(WARM + timed):
        row = number % len(check.rows)
        began = time.perf_counter()
        model.predict("", moment, check.rows[row : row + 1])
        seconds.append(time.perf_counter() - began)
    p50, p99 = np.quantile(seconds[WARM:], [0.5, 0.99]) if timed else (math.nan, math.nan)
    return Checked(len(check.rows), max(check.different(batch), check.different(single)), float(p50), float(p99))


def main() -> int:
    """Print {"rows", "different", "p50", "p99"}, or {"error"} with exit code 2."""
    from mbats.ml.registry import load

    folder = Path(sys.argv[1])
    try:
        _, model = load(folder)
        answer = asdict(check_model(model, read_check(folder)))
    except MbatsError as error:
        print(json.dumps({"error": str(error)}))  # noqa: T201  one line for the process that asked
        return error.exit_code
    print(json.dumps(answer))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
