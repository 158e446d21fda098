"""How a model is made, as a file: which label, which splits, which estimator, which parameters are tried.

A recipe is a TOML file in `mlflow/recipes/`. Nothing of it is code, but the dotted name of its estimator is imported:
`sklearn.ensemble.RandomForestRegressor`, or any class of scikit-learn's habits (`fit`, `predict`, and `predict_proba` where it
classifies).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mbats.errors import ConfigError, UnknownName

Kind = Literal["regressor", "classifier"]
Scalar = bool | int | float | str


class UnknownRecipe(UnknownName):
    """No such file in the folder of recipes."""

    kind = "recipe"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelSpec(_Part):
    """What a model learns of each bar, all of it after that bar; `mbats.ml.labels` says how each kind is counted.

    `horizon` is in bars. Stop and target are multiples of the average true range over `atr_period` bars, and are of no
    account but to the triple barrier.
    """

    kind: Literal["forward_return", "direction", "triple_barrier"] = "forward_return"
    horizon: int = Field(default=12, ge=1, le=10_000)
    after_costs: bool = True
    stop_atr: float = Field(default=2.0, gt=0)
    target_atr: float = Field(default=2.0, gt=0)
    atr_period: int = Field(default=14, ge=1)


class SplitSpec(_Part):
    """How the bars are cut into folds, in order of time; `mbats.ml.splits` says how. All counts are of distinct bar times.

    An expanding fold trains on all that was known before it, a rolling one on the last `train_bars`. `embargo` bars before each
    test are left out of its training. `min_train` bars lie before the first test; when it is left out, two fifths of all.
    With fewer than `min_samples` rows, of all symbols together, `mbats train` refuses: nothing could be told from chance.
    """

    kind: Literal["expanding", "rolling"] = "expanding"
    folds: int = Field(default=5, ge=1, le=1000)
    train_bars: int | None = Field(default=None, ge=1)
    embargo: int = Field(default=0, ge=0)
    min_train: int | None = Field(default=None, ge=1)
    min_samples: int = Field(default=500, ge=1)

    @model_validator(mode="after")
    def _rolling_has_a_window(self) -> Self:
        if self.kind == "rolling" and self.train_bars is None:
            raise ValueError("rolling folds need train_bars, the number of bars that each is trained on")
        return self


class Range(_Part):
    """The values of one parameter that are tried: from `low` to `high` with both ends, or one of `choices`.

    Whole numbers stay whole. `log` tries as many values between 1 and 10 as between 10 and 100.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[Scalar, ...] | None = None

    @model_validator(mode="after")
    def _one_of_two_forms(self) -> Self:
        if self.choices is not None:
            if not self.choices or self.low is not None or self.high is not None or self.log:
                raise ValueError("choices stand alone and are not empty")
        elif self.low is None or self.high is None or not self.low <= self.high:
            raise ValueError("a range needs low and high with low not above high, or choices")
        elif self.log and self.low <= 0:
            raise ValueError("a logarithmic range begins above zero")
        return self


class Recipe(_Part):
    """One way to make a model; frozen, and written into the run that uses it by `to_json`."""

    name: str = Field(min_length=1)
    description: str = ""
    label: LabelSpec = LabelSpec()
    splits: SplitSpec = SplitSpec()
    estimator: str
    parameters: dict[str, Scalar | None] = {}
    tune: dict[str, Range] = {}
    trials: int = Field(default=0, ge=0)
    seed: int = Field(default=1, ge=0, lt=2**32)

    KINDS: ClassVar[dict[str, Kind]] = {
        "forward_return": "regressor",
        "direction": "classifier",
        "triple_barrier": "classifier",
    }

    @property
    def kind(self) -> Kind:
        """Whether the label is a number or one of three classes."""
        return self.KINDS[self.label.kind]

    def to_json(self) -> dict[str, Any]:
        """As plain values; `Recipe(**values)` reads them back."""
        return self.model_dump(mode="json")


def recipe_names(folder: Path) -> list[str]:
    """The recipes of a folder, by name."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def load_recipe(name_or_path: str | Path, folder: Path) -> Recipe:
    """The recipe of this name in `folder`, or in this file (anything that ends in `.toml`).

    A name that is not there raises UnknownRecipe with those that are; a file that cannot be read or says something else than a
    recipe raises ConfigError with the file, the field and what was found.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith(".toml") else folder / f"{text}.toml"
    if not path.is_file():
        if path.parent != folder or "/" in text:
            raise ConfigError(f"There is no recipe file {path}. Nothing was trained. Give a file that exists, or a name.")
        raise UnknownRecipe(text, recipe_names(folder), where=str(folder))
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"The recipe {path} cannot be read: {error}. Nothing was trained. Mend the file.") from error
    try:
        return Recipe(**{"name": path.stem, **values})
    except ValidationError as error:
        wrong = "; ".join(_sentence(each) for each in error.errors())
        raise ConfigError(f"The recipe {path} is not one: {wrong}. Nothing was trained. Mend the file.") from error


def _sentence(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "the whole"
    what = str(error["msg"]).removeprefix("Value error, ")
    found = error["input"]
    return f"{place}: {what}" + (f" (found {found!r})" if isinstance(found, Scalar) else "")
