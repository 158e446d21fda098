"""Who may use the exchange: users, their tokens, their accounts, and the options that OANDA does not document.

A file of YAML, for instance

    users:
      - name: bot
        tokens:
          - {token_secret: simulator_token, scopes: [read, trade]}
          - {token_file: /run/secrets/dashboard, scopes: [read]}
        accounts:
          - {id: 101-004-1435156-001, currency: USD, balance: 100000, hedging: false}
    options: {future_to: reject, candle_lag_seconds: 3}

Without a file there is one user, who has the platform's own token and one account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from mbats.errors import ConfigError
from mbats.market import Instrument
from mbats.simulator.core.values import AccountConfig
from mbats.simulator.quotes import convertible

Scope = Literal["read", "trade"]
SECRET = "simulator_token"  # of the platform's secrets, the one that opens the default account

Secrets = Callable[[str], SecretStr]


@dataclass(frozen=True, slots=True)
class Token:
    """What a client shows. `read` lets it look, `trade` lets it do."""

    secret: SecretStr
    scopes: frozenset[Scope] = frozenset(("read", "trade"))


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with tokens, each of which opens all of the accounts."""

    name: str
    tokens: tuple[Token, ...]
    accounts: tuple[AccountConfig, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """What OANDA does not document, or what a test wants to be worse than usual.

    `latency_ms` passes between a market order and the market; `slippage_points` worsens every fill but those of limit orders.
    A candle stays incomplete for `candle_lag_seconds` after its end. `future_to` says whether candles up to a time that has
    not come are refused, as OANDA does, or given up to now. Limits on requests and streams are OANDA's, and so are the pause
    between two heartbeats and the window in which a stream has one price of a pair at most, both of this machine's time.
    """

    latency_ms: int = 0
    slippage_points: int = 0
    candle_lag_seconds: float = 0.0
    future_to: Literal["reject", "clamp"] = "reject"
    requests_per_second: float = 120.0
    max_streams: int = 20
    streams_per_second: float = 2.0
    heartbeat_seconds: float = 5.0
    price_window_seconds: float = 0.25


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """Everything that the file says."""

    users: tuple[User, ...]
    options: Options = field(default_factory=Options)

    @property
    def accounts(self) -> tuple[AccountConfig, ...]:
        """Every account, in the order of the file."""
        return tuple(account for user in self.users for account in user.accounts)

    def check_market(self, instruments: Iterable[Instrument]) -> None:
        """Raise ConfigError when an account is kept in a currency that these instruments cannot convert into every other."""
        listed = list(instruments)
        names = [each.name for each in listed]
        currencies = sorted({currency for each in listed for currency in (each.base, each.quote)})
        for account in self.accounts:
            lost = [other for other in currencies if not convertible(other, account.currency, names)]
            if lost:
                raise ConfigError(
                    f"Account {account.id} is kept in {account.currency}, into which this market cannot convert "
                    f"{', '.join(lost)}. The simulator was not started; keep the account in one of "
                    f"{', '.join(currencies)}, or serve the pairs between them."
                )


def default_config(secrets: Secrets) -> SimulatorConfig:
    """One user with the platform's own token, and one account. Raises ConfigError when there is no such secret."""
    return SimulatorConfig((User("default", (Token(secrets(SECRET)),), (AccountConfig(),)),))


def read_config(path: Path | None, secrets: Secrets) -> SimulatorConfig:
    """Read the file, or give the default when none is named; `secrets` finds a secret of the platform's by its name.

    Raises ConfigError that says which line or key is wrong, what was found and what was expected. A token is never quoted.
    """
    if path is None:
        return default_config(secrets)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise _refusal(path, f"is no YAML: {_place(error)}") from None
    try:
        found = _File.model_validate(document if isinstance(document, dict) else {"users": document})
    except ValidationError as error:
        raise _refusal(path, "has " + "; ".join(_problem(problem) for problem in error.errors())) from None
    users = tuple(_user(path, user, secrets) for user in found.users)
    _refuse_doubles(path, "account id", [account.id for user in users for account in user.accounts])
    _refuse_doubles(path, "user", [user.name for user in users])
    tokens = [token.secret.get_secret_value() for user in users for token in user.tokens]
    if len(set(tokens)) < len(tokens):
        raise _refusal(path, "gives the same token twice")
    return SimulatorConfig(users, Options(**found.options.model_dump()))


# --- The file as it is written -----------------------------------------------------------------------------------------

ACCOUNT, OPTIONS = AccountConfig(), Options()  # what a key has that the file does not give


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Token(_Part):
    token: SecretStr | None = None
    token_secret: str | None = None
    token_file: Path | None = None
    scopes: frozenset[Scope] = Field(frozenset(("read", "trade")), min_length=1)

    @model_validator(mode="after")
    def _one_source(self) -> _Token:
        if sum(each is not None for each in (self.token, self.token_secret, self.token_file)) != 1:
            raise ValueError("a token needs exactly one of token, token_secret and token_file")
        return self


class _Account(_Part):
    id: Annotated[str, Field(pattern=r"^\d{1,9}-\d{1,9}-\d{1,9}-\d{1,9}$")]
    alias: str = ACCOUNT.alias
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = ACCOUNT.currency
    balance: Annotated[Decimal, Field(gt=0, le=10**12, decimal_places=4)] = ACCOUNT.balance
    margin_rate: Annotated[Decimal | None, Field(gt=0, le=1)] = None
    hedging: bool = False
    fifo: bool = False
    financing: Literal["NO_FINANCING", "DAILY"] = "DAILY"
    aggregation: Literal["ABSOLUTE_SUM", "MAXIMAL_SIDE", "NET_SUM"] = "MAXIMAL_SIDE"

    @model_validator(mode="after")
    def _one_rule(self) -> _Account:
        if self.hedging and self.fifo:
            raise ValueError("an account cannot have both hedging and fifo: the rule of FIFO forbids hedging")
        return self


class _User(_Part):
    name: Annotated[str, Field(min_length=1)]
    tokens: Annotated[list[_Token], Field(min_length=1)]
    accounts: Annotated[list[_Account], Field(min_length=1)]


class _Options(_Part):
    latency_ms: Annotated[int, Field(ge=0, le=60_000)] = OPTIONS.latency_ms
    slippage_points: Annotated[int, Field(ge=0, le=1_000_000)] = OPTIONS.slippage_points
    candle_lag_seconds: Annotated[float, Field(ge=0, le=7)] = OPTIONS.candle_lag_seconds
    future_to: Literal["reject", "clamp"] = "reject"
    requests_per_second: Annotated[float, Field(ge=1)] = OPTIONS.requests_per_second
    max_streams: Annotated[int, Field(ge=0)] = OPTIONS.max_streams
    streams_per_second: Annotated[float, Field(gt=0)] = OPTIONS.streams_per_second
    heartbeat_seconds: Annotated[float, Field(gt=0)] = OPTIONS.heartbeat_seconds
    price_window_seconds: Annotated[float, Field(ge=0)] = OPTIONS.price_window_seconds


class _File(_Part):
    users: Annotated[list[_User], Field(min_length=1)]
    options: _Options = _Options()


def _user(path: Path, user: _User, secrets: Secrets) -> User:
    tokens = tuple(Token(_secret(path, token, secrets), token.scopes) for token in user.tokens)
    return User(user.name, tokens, tuple(AccountConfig(**account.model_dump()) for account in user.accounts))


def _secret(path: Path, token: _Token, secrets: Secrets) -> SecretStr:
    found = token.token
    if token.token_secret is not None:
        try:
            found = secrets(token.token_secret)
        except (AttributeError, AssertionError):
            raise _refusal(path, f"names the secret '{token.token_secret}', and the platform has none of that name") from None
    elif token.token_file is not None:
        try:
            found = SecretStr(token.token_file.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise _refusal(path, f"names the token file {token.token_file}, which cannot be read: {error}") from None
    if found is None or not found.get_secret_value().isascii() or not found.get_secret_value().isprintable():
        raise _refusal(path, "has a token that no header can carry: it must be printable ASCII")
    if not found.get_secret_value().strip():
        raise _refusal(path, "has an empty token")
    return found


def _refuse_doubles(path: Path, what: str, names: Sequence[str]) -> None:
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise _refusal(path, f"gives the {what} {', '.join(doubles)} twice")


def _problem(problem: Any) -> str:
    where = [str(part) for part in problem["loc"]]
    secret = "tokens" in where or isinstance(problem["input"], dict | list)
    found = "" if secret else f" (found {problem['input']!r})"
    return f"a mistake at {'.'.join(where) or 'the top'}: {problem['msg']}{found}"


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else type(error).__name__


def _refusal(path: Path, found: str) -> ConfigError:
    return ConfigError(f"MBATS_SIMULATOR_CONFIG names {path}, which {found}. The simulator was not started; correct the file.")
