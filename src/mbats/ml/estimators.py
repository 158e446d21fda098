"""Estimators by their dotted names, and the part around them that says nothing where nothing was found.

Any model that fits noise predicts something, and is worse than silence. So every estimator here stands inside one that first
lets it predict bars that it was not trained on, in order of time, and then shrinks it towards zero by what came of that: to
nothing where its predictions meant nothing, hardly at all where they held.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone, is_classifier, is_regressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mbats.errors import ConfigError, MbatsError
from mbats.market import Floats, Times
from mbats.ml.recipe import Kind, Recipe, Scalar, SplitSpec
from mbats.ml.splits import walk_forward

Floats2D = NDArray[np.float64]
CLASSES = np.array([-1, 0, 1])  # down, neither, up: the columns of every classifier's probabilities, in this order
BLOCKS = 20  # of neighbouring rows, whose labels overlap and so are not independent
SURE = 2.0  # standard errors that a slope must lie above zero to count
NO_MATTER_THE_SCALE = ("sklearn.ensemble.", "sklearn.tree.", "lightgbm.")


def edge_of(kind: Kind, output: Any, classes: Any = CLASSES) -> Floats:
    """What a strategy is told, (n,), of what an estimator gave: a regressor's prediction, or P(up) − P(down) of probabilities.

    `output` is (n,) or (n, 1) of a regressor and (n, classes) of a classifier, whose `classes` name the columns.
    """
    table = np.asarray(output, np.float64)
    if kind == "regressor":
        return table.reshape(len(table))
    names = [float(name) for name in classes]
    edge = np.zeros(len(table))
    if 1.0 in names:
        edge += table[:, names.index(1.0)]
    if -1.0 in names:
        edge -= table[:, names.index(-1.0)]
    return edge


class _Shrunk(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both kinds share. Fitted, it has `estimator_` (the one inside), `slope_` in [0, 1] and `slope_t_`, its t value."""

    kind: Kind

    def __init__(self, estimator: Any, folds: int = 4) -> None:
        self.estimator = estimator
        self.folds = folds

    def _fit_shrunk(self, features: Floats2D, value: Floats, times: Times | None, ends: Times | None) -> None:
        rows = np.arange(len(value)).astype("datetime64[us]")
        times = rows if times is None else times
        # Blocks of equal length, of which the first is only trained on.
        spec = SplitSpec(folds=self.folds - 1, min_train=max(len(np.unique(times)) // self.folds, 1))
        said, came = [], []
        for fold in walk_forward(times, times if ends is None else ends, spec):
            inside = self._fit_inside(features[fold.train], value[fold.train])
            said.append(self._say(inside, features[fold.test]))
            came.append(value[fold.test])
        self.slope_, self.slope_t_ = shrinkage(np.concatenate(said), np.concatenate(came))
        self.estimator_ = self._fit_inside(features, value)
        self.n_features_in_ = features.shape[1]

    def _fit_inside(self, features: Floats2D, value: Floats) -> Any:
        return clone(self.estimator).fit(features, value)

    def _say(self, inside: Any, features: Floats2D) -> Floats:
        return edge_of("regressor", inside.predict(features))

    def _whole_rows(self, features: Any) -> tuple[Floats2D, NDArray[np.bool_]]:
        table = np.ascontiguousarray(np.asarray(features, np.float64))
        if table.ndim != 2 or table.shape[1] != self.n_features_in_:
            raise ValueError(f"features of shape {table.shape}, expected (rows, {self.n_features_in_})")
        return table, np.asarray(np.isfinite(table).all(axis=1))

    def unshrunk(self, features: Any) -> Floats:
        """What the estimator inside would say by itself of each row (n, k), (n,); NaN where a feature is not a number."""
        table, whole = self._whole_rows(features)
        found = np.full(len(table), np.nan)
        if whole.any():
            found[whole] = self._say(self.estimator_, table[whole])
        return found

    def expected(self, features: Any) -> Floats:
        """The value that is expected of each row (n, k) before costs, (n,); NaN where a feature is not a number."""
        return self.slope_ * self.unshrunk(features)


class ShrunkRegressor(RegressorMixin, _Shrunk):  # type: ignore[misc]
    """Predicts the return that a position is worth after the usual costs: positive for a long one, negative for a short one.

    It is the expected return, shrunk, less the mean `cost_` of the training, and zero where the costs are larger.
    """

    kind: Kind = "regressor"

    def fit(self, X: Any, y: Any, *, times: Times | None = None, ends: Times | None = None, costs: Floats | None = None) -> Self:
        """X (n, k), y (n,) before costs, in order of time. `times`, `ends`, `costs` (n,) are those of `Samples`.

        Without `times` and `ends` each row counts as its own bar, whose label is known at once; without `costs` there are none.
        """
        self._fit_shrunk(np.asarray(X, np.float64), np.asarray(y, np.float64), times, ends)
        self.cost_ = 0.0 if costs is None else float(np.mean(costs))
        return self

    def predict(self, X: Any) -> Floats:
        """The edge of each row (n, k) after costs, as a fraction, (n,); NaN where a feature is not a number."""
        expected = self.expected(X)
        edge: Floats = np.sign(expected) * np.maximum(np.abs(expected) - self.cost_, 0.0)
        return edge

    def score(self, X: Any, y: Any) -> float:
        """R² before costs against a forecast of zero."""
        value = np.asarray(y, np.float64)
        return float(1 - np.sum((value - self.expected(X)) ** 2) / np.sum(value**2))


class ShrunkClassifier(ClassifierMixin, _Shrunk):  # type: ignore[misc]
    """Gives the probabilities of down, neither and up, in this order, whatever classes its training held.

    They are mixed with those of no knowledge: the share of `neither` in training, and up and down alike.
    """

    kind: Kind = "classifier"

    def fit(self, X: Any, y: Any, *, times: Times | None = None, ends: Times | None = None, costs: Floats | None = None) -> Self:
        """As the regressor's; y (n,) is 1, 0 or −1 and counts the costs already, so `costs` changes nothing."""
        value = np.asarray(y, np.float64)
        neither = float(np.mean(value == 0))
        self.classes_ = CLASSES
        self.prior_ = np.array([(1 - neither) / 2, neither, (1 - neither) / 2])
        self._fit_shrunk(np.asarray(X, np.float64), value, times, ends)
        return self

    def _fit_inside(self, features: Floats2D, value: Floats) -> Any:
        classes = np.unique(value).astype(int)
        # One class alone says nothing of up against down, and not every estimator takes it.
        return None if len(classes) < 2 else super()._fit_inside(features, value.astype(int))

    def _say(self, inside: Any, features: Floats2D) -> Floats:
        if inside is None:
            return np.zeros(len(features))
        return edge_of("classifier", inside.predict_proba(features), inside.classes_)

    def predict_proba(self, X: Any) -> Floats2D:
        """(n, 3): P(down), P(neither), P(up); NaN where a feature is not a number."""
        table, whole = self._whole_rows(X)
        found = np.full((len(table), 3), np.nan)
        found[whole] = (1 - self.slope_) * self.prior_ if self.estimator_ is not None else self.prior_
        if whole.any() and self.estimator_ is not None:
            probability = self.estimator_.predict_proba(table[whole])
            for column, name in enumerate(self.estimator_.classes_):
                found[whole, int(name) + 1] += self.slope_ * probability[:, column]
        return found

    def expected(self, features: Any) -> Floats:
        """P(up) − P(down) of each row (n, k), (n,), to the bit as it comes out of the probabilities."""
        return edge_of("classifier", self.predict_proba(features))

    def predict(self, X: Any) -> NDArray[np.int64]:
        """The likeliest class of each row, (n,). Raises ValueError where a feature is not a number."""
        probability = self.predict_proba(X)
        if np.isnan(probability).any():
            raise ValueError("a feature is not a number, so there is no likeliest class")
        return np.asarray(CLASSES[np.argmax(probability, axis=1)])


def shrinkage(said: Floats, came: Floats) -> tuple[float, float]:
    """By how much to multiply predictions, in [0, 1], and the t value of that, from what was `said` (n,) and what `came` (n,).

    The slope of a line through the origin, times 1 − (2/t)² where that is positive (the garrote of Breiman, 1995, Better subset
    regression using the nonnegative garrote): what lies within two standard errors of nothing counts as nothing. The error is
    taken over blocks of neighbouring rows (Liang and Zeger, 1986), since their labels overlap.
    """
    power = float(np.sum(said * said))
    if power <= 0.0 or not np.isfinite(power):
        return 0.0, 0.0
    slope = float(np.sum(said * came)) / power
    pushes = said * (came - slope * said)
    blocks = [float(block.sum()) for block in np.array_split(pushes, min(BLOCKS, len(pushes)))]
    error = float(np.sqrt(sum(block * block for block in blocks))) / power
    if error == 0.0:
        return min(max(slope, 0.0), 1.0), float(np.copysign(np.inf, slope))
    t = slope / error
    kept = slope * (1 - (SURE / t) ** 2) if t > SURE else 0.0
    return min(kept, 1.0), t


def make_base(recipe: Recipe, parameters: Mapping[str, Scalar | None] | None = None) -> Any:
    """The recipe's estimator alone: with its parameters and these over them, seeded, on one core, unfitted.

    Features are scaled to mean 0 and deviation 1 where the estimator is not made of trees. Raises ConfigError when there is
    no such class, when it does not take a parameter, or when it is of the other kind than the label.
    """
    maker = _class(recipe)
    given = {**recipe.parameters, **(parameters or {})}
    try:
        base = maker(**given)
        known = base.get_params()
        ours = {"random_state": recipe.seed, "n_jobs": 1}
        base.set_params(**{name: value for name, value in ours.items() if name in known})
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"Recipe {recipe.name}: {recipe.estimator} cannot be made with {given}: {error}. Nothing was trained. "
            "Mend its parameters."
        ) from error
    if not (is_classifier if recipe.kind == "classifier" else is_regressor)(base):
        raise ConfigError(
            f"Recipe {recipe.name}: the label {recipe.label.kind} needs a {recipe.kind}, and {recipe.estimator} is none. "
            "Nothing was trained. Name another estimator or another label."
        )
    return base if recipe.estimator.startswith(NO_MATTER_THE_SCALE) else make_pipeline(StandardScaler(), base)


def make_estimator(recipe: Recipe, parameters: Mapping[str, Scalar | None] | None = None) -> ShrunkRegressor | ShrunkClassifier:
    """The recipe's estimator with its shrinkage, unfitted; `mbats.ml.walkforward.fit_model` fits it as it should be."""
    base = make_base(recipe, parameters)
    return ShrunkClassifier(base) if recipe.kind == "classifier" else ShrunkRegressor(base)


def _class(recipe: Recipe) -> Any:
    module, _, name = recipe.estimator.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"Recipe {recipe.name}: there is no estimator {recipe.estimator} here ({error}). Nothing was trained. "
            "Give the dotted name of a class that is installed, as sklearn.ensemble.RandomForestRegressor."
        ) from error


def fit_or_say(recipe: Recipe, estimator: Any, features: Floats2D, value: Floats, **more: Any) -> Any:
    """Fit an estimator; what it raises becomes a ConfigError that names the recipe."""
    try:
        return estimator.fit(features, value, **more)
    except MbatsError:
        raise
    except Exception as error:  # an estimator by its dotted name may raise anything, LightGBM's errors are plain Exceptions
        raise ConfigError(
            f"Recipe {recipe.name}: {recipe.estimator} could not be fitted on {features.shape[0]} rows of {features.shape[1]} "
            f"features: {error}. Nothing was registered. Mend the recipe's parameters."
        ) from error
