"""The accounts that may be traded on, by the names that deployments call them: which environment, which address, which token.

    MBATS_ACCOUNTS=paper=simulator,trial=practice:101-004-1435156-001,real=live:001-004-1435156-002

Paper and live differ by address and token alone (R36). A live account is given to nobody before its id was said twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS
from pydantic import SecretStr

from mbats.errors import ConfigError, UnknownName
from mbats.live.gate import Mode, check_account
from mbats.live.gate.mode import Environment
from mbats.settings import Settings

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
ACCOUNT_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
FORM = "name=environment or name=environment:account id, such as paper=simulator or real=live:001-004-1435156-002"


class UnknownAccount(UnknownName):
    """The settings name no such account."""

    kind = "account"
    where = "MBATS_ACCOUNTS"


@dataclass(frozen=True, slots=True)
class AccountRef:
    """One account: where it is, and what opens it. `account_id` None is the first that the token opens; a live one has its id."""

    name: str
    mode: Mode
    environment: Environment
    url: str
    stream_url: str
    token: SecretStr
    account_id: str | None


@dataclass(frozen=True, slots=True)
class _Line:
    """One entry of the setting."""

    name: str
    environment: Environment
    account_id: str | None


def account_names(settings: Settings) -> list[str]:
    """The names of all accounts, in the order of the setting. Raises ConfigError when it cannot be read."""
    return list(_lines(settings))


def mode_of(settings: Settings, name: str) -> Mode:
    """Whether this account is one of real money; asks for no token. Raises UnknownAccount, ConfigError."""
    return _mode(_line(settings, name).environment)


def resolve(settings: Settings, name: str) -> AccountRef:
    """The account of this name, ready to be traded on.

    Raises UnknownAccount; ConfigError when its token is missing, when environment, address and id contradict each other, when it
    is a live one whose id is not also in MBATS_TRADE_LIVE, and when the broker's clock is to be followed and it is no simulator.
    """
    line = _line(settings, name)
    if settings.trader_clock == "broker" and line.environment != "simulator":
        raise ConfigError(
            f"MBATS_TRADER_CLOCK is broker, which is for simulators alone, and account '{name}' is of OANDA {line.environment}: "
            "nothing was started. Leave MBATS_TRADER_CLOCK out."
        )
    if line.environment == "simulator":
        url, stream_url = settings.simulator_url, settings.simulator_stream_url
    else:
        url, stream_url = (TRADING_ENVIRONMENTS[line.environment][side] for side in ("api", "stream"))
    said = (settings.trade_live or "").replace(" ", "").split(",")
    check_account(
        _mode(line.environment),
        environment=line.environment,
        url=url,
        account=line.account_id or "",
        second_word=line.account_id if line.account_id in said else settings.trade_live,
    )
    token = _token(settings, line)
    return AccountRef(name, _mode(line.environment), line.environment, url, stream_url, token, line.account_id)


def token_file(settings: Settings, name: str) -> Path:
    """The file of the token that one account has for itself, if it has one."""
    return settings.secrets_dir / f"mbats_account_{name}_token"


def _mode(environment: Environment) -> Mode:
    return Mode.LIVE if environment == "live" else Mode.PAPER


def _line(settings: Settings, name: str) -> _Line:
    lines = _lines(settings)
    if name not in lines:
        raise UnknownAccount(name, lines)
    return lines[name]


def _lines(settings: Settings) -> dict[str, _Line]:
    if not settings.accounts.strip():
        return {"paper": _default(settings)}
    lines: dict[str, _Line] = {}
    held: dict[tuple[str, str], str] = {}
    for entry in settings.accounts.split(","):
        line = _read(entry.strip())
        if line.name in lines:
            raise ConfigError(
                f"MBATS_ACCOUNTS names the account '{line.name}' twice: nothing was started. Give each its own name."
            )
        if line.account_id is not None:
            other = held.setdefault((line.environment, line.account_id), line.name)
            if other != line.name:
                raise ConfigError(
                    f"MBATS_ACCOUNTS calls account {line.account_id} of {line.environment} both '{other}' and '{line.name}': "
                    "nothing was started, for two owners of one account would not know of each other's orders. Keep one name."
                )
        lines[line.name] = line
    return lines


def _read(entry: str) -> _Line:
    name, equals, place = entry.partition("=")
    environment, colon, account_id = place.strip().partition(":")
    name, environment, account_id = name.strip(), environment.strip(), account_id.strip()
    known = get_args(Environment)
    if not equals or NAME.fullmatch(name) is None or environment not in known or bool(colon) != bool(account_id):
        raise ConfigError(f"MBATS_ACCOUNTS holds '{entry}': expected {FORM}, the environment one of {', '.join(known)}.")
    if account_id and ACCOUNT_ID.fullmatch(account_id) is None:
        raise ConfigError(f"MBATS_ACCOUNTS holds '{entry}': '{account_id}' is no account's id, such as 101-004-1435156-001.")
    return _Line(name, next(value for value in known if value == environment), account_id or None)


def _default(settings: Settings) -> _Line:
    """Without the setting: an account that risks nothing, whatever else is set."""
    if settings.oanda_environment == "live":
        return _Line("paper", "simulator", None)
    return _Line("paper", settings.oanda_environment, settings.oanda_account)


def _token(settings: Settings, line: _Line) -> SecretStr:
    own = token_file(settings, line.name)
    if own.is_file():
        text = own.read_text(encoding="utf-8").strip()
        if not text:
            raise ConfigError(f"The file {own} is empty: expected the token of account '{line.name}'. Nothing was started.")
        return SecretStr(text)
    if line.environment == "simulator":
        return settings.required_secret("simulator_token")
    # OANDA's tokens open either practice or live accounts; which of the two this one does, MBATS_OANDA_ENVIRONMENT says.
    if settings.oanda_environment not in ("simulator", line.environment):
        raise ConfigError(
            f"Account '{line.name}' is of OANDA {line.environment}, and MBATS_OANDA_TOKEN is that of "
            f"{settings.oanda_environment}: nothing was started. Write the token of '{line.name}' to {own}."
        )
    if settings.oanda_token is None:
        raise ConfigError(
            f"No token for account '{line.name}' of OANDA {line.environment}: neither the file {own} nor MBATS_OANDA_TOKEN is "
            "there. Nothing was started. Write it to one of the two."
        )
    return settings.oanda_token


__all__ = ["AccountRef", "UnknownAccount", "account_names", "mode_of", "resolve", "token_file"]
