"""Whether a log and the settings fit together: what was traded must go on under the terms under which it began."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from mbats.errors import ConfigError
from mbats.simulator.core.values import AccountConfig, Transaction


def require_fit(
    transactions: Sequence[Transaction], configs: Iterable[AccountConfig], instruments: Collection[str], folder: Path | None
) -> None:
    """Raise ConfigError when the log has an account that is not configured so, or orders in a pair without prices."""
    currencies = {config.id: config.currency for config in configs}
    opened = {each["accountID"]: each["homeCurrency"] for each in transactions if each["type"] == "CREATE"}
    for account, currency in opened.items():
        if account not in currencies:
            raise _misfit(folder, f"the account {account}, which the configuration has not", "give the account back")
        if currencies[account] != currency:
            found = f"account {account} in {currency}, the configuration in {currencies[account]}"
            raise _misfit(folder, found, "give the account its currency back")
    traded = {each["instrument"] for each in transactions if each["type"].endswith("_ORDER") and "instrument" in each}
    if lost := sorted(traded - set(instruments)):
        found = f"orders in {', '.join(lost)}, and these prices have only {', '.join(instruments)}"
        raise _misfit(folder, found, "serve the prices that it had")


def _misfit(folder: Path | None, found: str, remedy: str) -> ConfigError:
    return ConfigError(
        f"The simulator's log in {folder} has {found}. The simulator was not started; {remedy}, or name another folder by "
        "MBATS_SIMULATOR_DATA."
    )
