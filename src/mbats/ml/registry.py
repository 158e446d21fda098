"""Registered models: found by a reference, fetched whole, opened without the network.

A reference is `NAME@ALIAS`, which means whatever version has the alias now, or `NAME/VERSION`, which never comes to mean another.
With `rest:` before it the served endpoint is asked instead of a model in this process. What `mbats train` registers carries all
that must be known of it in tags `mbats.…`; a version without them was registered by someone else and cannot be used here.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbats.errors import ConfigError, PlatformError, UnknownName, UsageError
from mbats.ml.files import INFO, digest_of, download, read_info, write_info
from mbats.ml.predictor import PyfuncModel, RestModel
from mbats.ml.tracking import FILE_SECONDS, client, client_environment
from mbats.settings import Settings
from mbats.trading.model import Model, ModelInfo, ModelSet

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

REST = "rest:"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
REFERENCE = re.compile(rf"(?P<name>{NAME.pattern})(?:@(?P<alias>[A-Za-z0-9_-]+)|/(?P<version>[1-9][0-9]*))")
TAG = "mbats."
_FIELDS = tuple(field.name for field in fields(ModelInfo) if field.name not in ("name", "version", "run_id"))


class UnknownModel(UnknownName):
    """The registry holds no such model, version or alias."""

    kind = "model"
    where = "MLflow's registry"


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference taken apart: of `alias` and `version` one is set. `rest` asks the served endpoint."""

    name: str
    alias: str | None
    version: int | None
    rest: bool


@dataclass(frozen=True, slots=True)
class Version:
    """One registered version.

    `tags` are what `mbats train` noted besides, without the prefix `mbats.`: `recipe`, `trials` (how many sets of parameters were
    tried), `parameters`, `strategy_fingerprint`, `data_fingerprint`, `code_version`, and as JSON `out_of_sample` and `scores`.
    """

    info: ModelInfo
    aliases: tuple[str, ...]
    registered: datetime  # UTC
    tags: dict[str, str]


def parse_reference(text: str) -> Reference:
    """Raises UsageError that shows how one is written."""
    rest = text.startswith(REST)
    found = REFERENCE.fullmatch(text.removeprefix(REST))
    if not found:
        raise UsageError(
            f"'{text}' names no model; write NAME@ALIAS such as rsi_stochastic@champion, or NAME/VERSION such as "
            "rsi_stochastic/3, with rest: before it for the served endpoint."
        )
    version = found["version"]
    return Reference(found["name"], found["alias"], int(version) if version else None, rest)


def names(settings: Settings) -> list[str]:
    """The names of the registered models, but for those that no reference can name."""
    with client_environment(settings):
        return [name for name in _names(settings) if NAME.fullmatch(name)]


def aliases(settings: Settings, name: str) -> dict[str, int]:
    """The version of each alias. Raises UnknownModel."""
    with client_environment(settings):
        return _aliases(_registered(settings, name))


def set_alias(settings: Settings, name: str, alias: str, version: int) -> None:
    """Let the alias mean this version from now on. Raises UnknownModel."""
    with client_environment(settings):
        _require_version(settings, name, version)
        client(settings).set_registered_model_alias(name, alias, str(version))


def versions(settings: Settings, name: str) -> list[Version]:
    """Every version that `mbats train` registered under the name, newest first. Raises UnknownModel."""
    with client_environment(settings):
        by_version: dict[int, list[str]] = {}
        for alias, number in _aliases(_registered(settings, name)).items():
            by_version.setdefault(number, []).append(alias)
        found = _search(settings, name)
        ours = [one for one in found if f"{TAG}digest" in one.tags and one.status == "READY"]
        read = [_version(one, tuple(sorted(by_version.get(int(one.version), ())))) for one in ours]
    return sorted(read, key=lambda one: -one.info.version)


def resolve(settings: Settings, reference: str) -> ModelInfo:
    """What the reference means now. Raises UsageError, UnknownModel, ConfigError, or PlatformError when MLflow is away."""
    return find(settings, reference).info


def find(settings: Settings, reference: str) -> Version:
    """The same, with all that is noted of the version."""
    wanted = parse_reference(reference)
    with client_environment(settings):
        known = _aliases(_registered(settings, wanted.name))
        number = known.get(wanted.alias) if wanted.alias else wanted.version
        if number is None:
            choices = [f"{wanted.name}@{alias}" for alias in known]
            raise UnknownModel(reference.removeprefix(REST), choices + _numbered(settings, wanted.name))
        return _require_version(settings, wanted.name, number, [alias for alias, at in known.items() if at == number])


def fetch(settings: Settings, info: ModelInfo, folder: Path) -> Path:
    """The files of a version as the folder `<folder>/<name>/<version>`, from MLflow unless they are there already.

    They are there whole or not at all, and are what was registered: raises ConfigError when the digest of what MLflow gives
    differs, PlatformError when MLflow is away. `load` opens the folder.
    """
    place = folder / info.name / str(info.version)
    if (place / INFO).is_file() and digest_of(place) == info.digest:
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    version = find(settings, info.reference)
    if version.info != info:
        raise ConfigError(
            f"Version {info.reference} is not what it was: MLflow has the digest {version.info.digest[:12]}, expected was "
            f"{info.digest[:12]}. Nothing was fetched. Name the model anew, or train it again."
        )
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=place.parent) as temporary:
        arrived = Path(temporary) / "model"
        with client_environment(settings, seconds=FILE_SECONDS):
            download(f"models:/{info.reference}", info.run_id, arrived)
        found = digest_of(arrived)
        if found != info.digest:
            raise ConfigError(
                f"The files of model {info.reference} are not those that were registered: their digest is {found[:12]}, "
                f"expected was {info.digest[:12]}. They were thrown away. Train a new version."
            )
        write_info(arrived, info)
        _move(arrived, place, Path(temporary) / "old")
    return place


def load(path: Path) -> tuple[ModelInfo, Model]:
    """Open the model that `fetch` left in a folder. Asks nobody. Raises ConfigError when it cannot be opened."""
    info = read_info(path)
    return info, PyfuncModel.load(path, info)


def load_rest(settings: Settings, path: Path) -> tuple[ModelInfo, Model]:
    """The served endpoint in place of the model that `fetch` left in a folder.

    Raises PlatformError when the endpoint does not answer, ConfigError when another model answers there.
    """
    info = read_info(path)
    return info, RestModel.open(settings.serving_url, path, info)


def open_models(settings: Settings, references: Iterable[str], *, cache: Path | None = None) -> ModelSet:
    """The models of a run, by reference, each resolved once; none for no references, and then nobody is asked.

    Files are kept in `cache`, by default `models` in the state folder. Raises as `resolve`, `fetch` and `load` do.
    """
    opened: dict[str, tuple[ModelInfo | None, Model]] = {}
    for reference in dict.fromkeys(references):
        path = fetch(settings, resolve(settings, reference), cache or settings.home / "models")
        opened[reference] = load_rest(settings, path) if parse_reference(reference).rest else load(path)
    return ModelSet(models=opened)


def read_artifact(settings: Settings, info: ModelInfo, name: str) -> bytes:
    """One file that the training of a version logged, such as `oos_daily.parquet`. Raises PlatformError when it is not there."""
    from mlflow.artifacts import download_artifacts

    with client_environment(settings), tempfile.TemporaryDirectory(prefix="mbats-artifact-") as folder:
        return Path(download_artifacts(run_id=info.run_id, artifact_path=name, dst_path=folder)).read_bytes()


def version_tags(figures: Mapping[str, Any]) -> dict[str, str]:
    """What stands in MLflow beside a version, as texts: `figures` is `ModelInfo.to_json()` of it, whatever its number will be."""
    return {f"{TAG}{name}": json.dumps(figures[name]) for name in _FIELDS}


# --- what is asked of MLflow ----------------------------------------------------------------------------------------


def _names(settings: Settings) -> list[str]:
    found, token = [], None
    while True:
        page = client(settings).search_registered_models(max_results=100, page_token=token)
        found += [model.name for model in page]
        token = page.token
        if not token:
            return sorted(found)


def _search(settings: Settings, name: str) -> list[ModelVersion]:
    found, token = [], None
    while True:
        page = client(settings).search_model_versions(f"name='{name}'", max_results=100, page_token=token)
        found += list(page)
        token = page.token
        if not token:
            return found


def _numbered(settings: Settings, name: str) -> list[str]:
    return [f"{name}/{one.version}" for one in _search(settings, name)]


@contextmanager
def _absent_is_unknown(settings: Settings, wanted: str, name: str | None = None) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UnknownModel(wanted, _numbered(settings, name) if name else _names(settings)) from error


def _registered(settings: Settings, name: str) -> RegisteredModel:
    if not NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot name a model; letters, digits, '_', '.' and '-' can.")
    with _absent_is_unknown(settings, name):
        return client(settings).get_registered_model(name)


def _aliases(model: RegisteredModel) -> dict[str, int]:
    return {alias: int(version) for alias, version in model.aliases.items()}


def _require_version(settings: Settings, name: str, number: int, aliases: Iterable[str] = ()) -> Version:
    with _absent_is_unknown(settings, f"{name}/{number}", name):
        found = client(settings).get_model_version(name, str(number))
    return _version(found, tuple(sorted(aliases)))


def _version(found: ModelVersion, aliases: tuple[str, ...]) -> Version:
    reference = f"{found.name}/{found.version}"
    if found.status != "READY":
        raise PlatformError(f"Version {reference} is not ready in MLflow's registry: {found.status}. Nothing was opened.")
    tags = {name.removeprefix(TAG): value for name, value in found.tags.items() if name.startswith(TAG)}
    try:
        figures = {name: json.loads(tags.pop(name)) for name in _FIELDS}
        info = ModelInfo.from_json({"name": found.name, "version": int(found.version), "run_id": found.run_id, **figures})
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"Version {reference} does not say what it is: its tag {error} is missing or cannot be read. It was not "
            "registered by `mbats train`, and cannot be used."
        ) from error
    registered = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    return Version(info, aliases, registered, tags)


def _move(arrived: Path, place: Path, aside: Path) -> None:
    """Put what arrived in its place. Two that fetch the same bring the same: the later one wins."""
    if place.exists():
        place.rename(aside)
    try:
        arrived.rename(place)
    except OSError:
        if not (place / INFO).is_file():
            raise
        shutil.rmtree(arrived)


__all__ = [
    "Reference",
    "UnknownModel",
    "Version",
    "aliases",
    "client_environment",
    "fetch",
    "find",
    "load",
    "load_rest",
    "names",
    "open_models",
    "parse_reference",
    "read_artifact",
    "read_info",
    "resolve",
    "set_alias",
    "version_tags",
    "versions",
    "write_info",
]
