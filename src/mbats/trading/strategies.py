"""Strategies as files: found by name, loaded alone, their parameters typed by what they declare."""

from __future__ import annotations

import hashlib
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backtrader as bt

from mbats.errors import ConfigError, UnknownParameter, UnknownStrategy, UsageError

_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


@dataclass(frozen=True, slots=True)
class LoadedStrategy:
    """A strategy's class, with the text it was made from."""

    name: str
    source: str
    cls: Any

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the text: the same fingerprint is the same strategy."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def summary(self) -> str:
        """First line of the strategy's docstring."""
        text = self.cls.__doc__ or sys.modules[self.cls.__module__].__doc__ or ""
        return text.strip().partition("\n")[0]

    def defaults(self) -> dict[str, Any]:
        """Each parameter with the value it has when nobody gives one."""
        return dict(self.cls.params._getitems())

    def parameters(self, given: dict[str, str]) -> dict[str, Any]:
        """Every parameter, the given texts read as the type of the declared default.

        Raises UnknownParameter for a name that is not declared, UsageError for a text that does not fit.
        """
        values = self.defaults()
        for name, text in given.items():
            if name not in values:
                raise UnknownParameter(name, values, where=f"strategy {self.name}")
            values[name] = _typed(self.name, name, text, values[name])
        return values


def _typed(strategy: str, name: str, text: str, default: Any) -> Any:
    """`text` as the type of `default`: 'false' for a yes-or-no parameter is false, and not a non-empty string."""
    try:
        if isinstance(default, bool):
            if text.lower() in _TRUE | _FALSE:
                return text.lower() in _TRUE
            raise ValueError(text)
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except ValueError:
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise UsageError(
            f"Parameter '{name}' of {strategy} takes {kind} (default {default!r}), but got '{text}'; nothing was done."
        ) from None
    if default is None and text.lower() in ("none", ""):
        return None
    return text


def strategy_names(folder: Path) -> list[str]:
    """The strategies in a folder: every Python file whose name does not begin with an underscore."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))


def load_strategy(name: str, folder: Path) -> LoadedStrategy:
    """The strategy in `folder/name.py`. Raises UnknownStrategy, or ConfigError that says what is wrong in the file."""
    path = folder / f"{name}.py"
    if name not in strategy_names(folder) and not (name.startswith("_") and path.is_file()):
        raise UnknownStrategy(name, strategy_names(folder), where=str(folder))
    return strategy_from_source(name, path.read_text(encoding="utf-8"), path)


def strategy_from_source(name: str, source: str, path: Path) -> LoadedStrategy:
    """The strategy that a text defines; `path` is where a traceback points. Raises ConfigError."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    module = types.ModuleType(f"mbats_strategy_{name}_{digest}", f"Strategy {name}, loaded from {path}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # Backtrader looks a class's module up there
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except Exception as error:
        raise ConfigError(
            f"Strategy '{name}' cannot be loaded from {path}: {type(error).__name__}: {error}. Correct the file; "
            "other strategies are not affected."
        ) from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, bt.Strategy) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(cls.__name__ for cls in found) or "none"
        raise ConfigError(f"Strategy file {path} must define one class derived from backtrader.Strategy; found {names}.")
    return LoadedStrategy(name, source, found[0])


def where_raised(error: BaseException, strategy: str) -> str:
    """The line of the strategy's file at which an error came out, or that of ours or Backtrader's which it called."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.endswith(f"{strategy}.py")]
    if own:
        return f"{own[-1].filename}:{own[-1].lineno} `{own[-1].line}`"
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} (called from the strategy's indicators or sizing)"
