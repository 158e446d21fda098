"""Which model a deployment trades with: looked up when a person starts it, and pinned until a person starts it again.

A reference such as `rsi_stochastic@champion` means another version after a promotion. A deployment must not change its mind in
the middle of a position because its process died: so the version is looked up once, its files are kept in the trader's folder,
and both stand in the deployment's `extra`, in the journal. Every later start of the process takes them from there, with or
without MLflow.

The registry is asked in a process of its own (`python -m mbats.ml.fetch`), so that the trader never loads its libraries.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbats.errors import DataError, UsageError
from mbats.live.deployment import Deployment
from mbats.settings import Settings
from mbats.trading.model import ModelInfo, references

log = logging.getLogger(__name__)

SHADOW = "shadow"  # in `extra`: the reference of a model that is asked and not obeyed, as the person wrote it
PINS = "models"  # in `extra`: what was found, by reference
SECONDS = "model_seconds"  # in `extra`: for how long a bar waits for its model
PINNED = (PINS, SECONDS)
SERVED = "rest:"
FETCH_WITHIN = 60.0  # seconds for all that one reference needs

Fetch = Callable[[Settings, str, Path], Mapping[str, Any]]


class NoModel(UsageError):
    """A model that a deployment needs cannot be had now; it was not started."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A reference, and the version that it meant when the deployment was started.

    `path` is the folder with the model's files on the trader's machine; `url`, unless empty, the endpoint that serves it.
    """

    reference: str
    info: ModelInfo
    path: Path
    url: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `extra` keeps it."""
        return {"info": self.info.to_json(), "path": str(self.path), "url": self.url}

    @classmethod
    def from_json(cls, reference: str, found: Mapping[str, Any]) -> Pin:
        """What `to_json` wrote. Raises DataError for anything else."""
        try:
            return cls(reference, ModelInfo.from_json(found["info"]), Path(found["path"]), found.get("url", ""))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"What is pinned for the model '{reference}' cannot be read ({type(error).__name__}: {error}). Nothing was "
                "started; `mbats stop` and `mbats start` look the model up anew."
            ) from None

    def __str__(self) -> str:
        served = ", served" if self.url else ""
        known = self.reference.removeprefix(SERVED) == self.info.reference
        return f"{self.info.reference}{served}" if known else f"{self.reference} = {self.info.reference}"


@dataclass(frozen=True, slots=True)
class Pins:
    """All that is pinned for one deployment: the models that its parameters name, by reference, and its shadow."""

    models: Mapping[str, Pin]
    shadow: Pin | None
    seconds: float

    def __str__(self) -> str:
        """For people; empty without any model."""
        return ", ".join([*map(str, self.models.values()), *([f"shadow {self.shadow}"] if self.shadow else [])])


def pins_of(deployment: Deployment) -> Pins:
    """What is pinned. Raises DataError when it cannot be read, or a model that the parameters name was never looked up."""
    found = {reference: Pin.from_json(reference, each) for reference, each in deployment.extra.get(PINS, {}).items()}
    wanted, shadow = references(deployment.parameters), deployment.extra.get(SHADOW, "")
    missing = [each for each in (*wanted, shadow) if each and each not in found]
    if missing:
        raise DataError(
            f"'{deployment.name}' needs the model {' and '.join(missing)}, which was not looked up when it was started. Nothing "
            f"was started; `mbats stop {deployment.name}` and `mbats start {deployment.name}` do it."
        )
    return Pins({each: found[each] for each in wanted}, found.get(shadow), float(deployment.extra.get(SECONDS, 1.0)))


def in_words(deployment: Deployment) -> str:
    """With which models it was started, for people; empty without any."""
    try:
        return str(pins_of(deployment))
    except DataError:
        return "not known"


def without_pins(extra: Mapping[str, Any]) -> dict[str, Any]:
    """`extra` as the person gave it."""
    return {key: value for key, value in extra.items() if key not in PINNED}


def pinned(deployment: Deployment, settings: Settings, *, fetch: Fetch | None = None) -> Deployment:
    """The deployment with all its references looked up now. Takes seconds where there are any.

    Raises NoModel, which says why, when one cannot be had: MLflow is away, there is no such model, it was made for another
    strategy, or the endpoint serves something else.
    """
    deployment = replace(deployment, extra=without_pins(deployment.extra))
    wanted = [*references(deployment.parameters), deployment.extra.get(SHADOW, "")]
    found: dict[str, Any] = {}
    for reference in dict.fromkeys(each for each in wanted if each):
        pin = _look_up(reference, settings, fetch or fetch_in_a_process)
        _require_fit(deployment, pin)
        found[reference] = pin.to_json()
    if not found:
        return deployment
    return replace(deployment, extra=deployment.extra | {PINS: found, SECONDS: settings.model_seconds})


def with_new_shadow(deployment: Deployment, settings: Settings, *, fetch: Fetch | None = None) -> Deployment | None:
    """The deployment with what its shadow's alias means by now; None when that is what it has. Models that it obeys stay.

    Raises NoModel when the version cannot be had, DataError when what is pinned cannot be read.
    """
    reference = deployment.extra.get(SHADOW, "")
    if "@" not in reference or reference in references(deployment.parameters):
        return None
    pin = _look_up(reference, settings, fetch or fetch_in_a_process)
    if pins_of(deployment).shadow == pin:
        return None
    _require_fit(deployment, pin)
    return replace(deployment, extra=deployment.extra | {PINS: deployment.extra[PINS] | {reference: pin.to_json()}})


def _look_up(reference: str, settings: Settings, fetch: Fetch) -> Pin:
    answer = fetch(settings, reference, settings.trader_home / "models")
    url = settings.serving_url if reference.startswith(SERVED) else ""
    return Pin.from_json(reference, {**answer, "url": url})


def _require_fit(deployment: Deployment, pin: Pin) -> None:
    """A model of other bars says nothing about these. That its features are the strategy's is seen when the strategy is made."""
    info = pin.info
    if info.granularity != deployment.granularity:
        raise NoModel(
            f"Model {info.reference} ('{pin.reference}') was trained on bars of {info.granularity}; '{deployment.name}' has bars "
            f"of {deployment.granularity}. Nothing was started: train one on these, or deploy it on bars of {info.granularity}."
        )
    strange = sorted(set(deployment.symbols) - set(info.symbols))
    if strange:
        log.warning("'%s': model %s never saw %s", deployment.name, info.reference, ", ".join(strange))


def fetch_in_a_process(settings: Settings, reference: str, folder: Path, *, within: float = FETCH_WITHIN) -> dict[str, Any]:
    """What `python -m mbats.ml.fetch` says: `info` and `path` of the version that the reference means now.

    Raises NoModel with its sentence, or when it ends without one or takes longer than `within` seconds.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = [sys.executable, "-P", "-m", "mbats.ml.fetch", reference, str(folder)]
    environment = os.environ | {"MBATS_HOME": str(settings.home)}
    try:
        done = subprocess.run(
            argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within, check=False
        )
    except subprocess.TimeoutExpired:
        raise NoModel(
            f"Model '{reference}' could not be fetched within {within:.0f} s: MLflow at {settings.mlflow_url} or its store of "
            "files does not answer in time. Nothing was started; `./starter_script.sh status` shows what is down."
        ) from None
    except OSError as error:
        raise NoModel(f"Model '{reference}' cannot be looked up: {error}. Nothing was started.") from None
    answer = _last_object(done.stdout)
    if done.returncode == 0 and {"info", "path"} <= answer.keys():
        return answer
    if "error" not in answer:
        log.error("the look-up of model %s ended with %d: %s", reference, done.returncode, done.stderr)
        answer = {"error": f"The look-up ended with exit code {done.returncode}; the trader's log has its words."}
    raise NoModel(f"Model '{reference}' cannot be had. {answer['error']} Nothing was started.")


def _last_object(text: str) -> dict[str, Any]:
    """The last line that is a JSON object: libraries may have printed before it."""
    for line in reversed(text.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


__all__: Sequence[str] = [
    "NoModel",
    "Pin",
    "Pins",
    "fetch_in_a_process",
    "in_words",
    "pinned",
    "pins_of",
    "with_new_shadow",
    "without_pins",
]
