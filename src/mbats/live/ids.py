"""The names under which orders go to the broker, derived from what was decided and from nothing else.

    mbats:rsi-eurusd:EUR_USD:20240514T100000Z:open-long

The same decision always has the same name, so that whoever reads the broker's log knows the deployment, the bar and the purpose
of every order, and one that was sent and never answered can be looked for after any crash. Pure.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from mbats.errors import UsageError
from mbats.live.gate import Intent

PREFIX = "mbats"
DEPLOYMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
BAR = "%Y%m%dT%H%M%SZ"
LONGEST = 128  # characters that OANDA allows in a client id


def check_name(name: str) -> str:
    """The name of a deployment, if it can be one. Raises UsageError that says which form is expected."""
    if DEPLOYMENT.fullmatch(name) is None:
        raise UsageError(
            f"A deployment cannot be called '{name}': expected up to 32 small letters, digits, '-' and '_', the first a letter "
            "or digit. Nothing was changed."
        )
    return name


def client_id(intent: Intent) -> str:
    """The name of the order of an intent. Raises ValueError when a part of it holds what would make the name ambiguous."""
    text = ":".join((PREFIX, intent.deployment, intent.symbol, intent.bar.astimezone(UTC).strftime(BAR), intent.purpose))
    if read_client_id(text) != intent:
        raise ValueError(f"{intent} makes no name that can be read back: {text!r}")
    return text


@lru_cache(maxsize=1024)
def read_client_id(text: str | None) -> Intent | None:
    """The intent that a name was made from; None for a name that is not ours."""
    parts = (text or "").split(":")
    if len(parts) != 5 or parts[0] != PREFIX or len(text or "") > LONGEST or DEPLOYMENT.fullmatch(parts[1]) is None:
        return None
    try:
        bar = datetime.strptime(parts[3], BAR).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Intent(parts[1], parts[2], bar, parts[4]) if parts[4] else None


def is_ours(text: str | None) -> bool:
    """Whether an order or trade with this client id was made by MBATS, by whichever of its deployments."""
    return read_client_id(text) is not None


def tag(deployment: str) -> str:
    """The tag that our orders and trades carry, for people who look at the account on the broker's own pages."""
    return f"{PREFIX}:{deployment}"
