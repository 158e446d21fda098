"""What OANDA says in words about its reject reasons."""

from __future__ import annotations

# Recorded; the others are not documented and are said from their names.
SENTENCES = {
    "PRICE_PRECISION_EXCEEDED": "The price specified contains more precision than is allowed for the instrument",
    "ORDER_DOESNT_EXIST": "The Order specified does not exist",
    "TRADE_DOESNT_EXIST": "The Trade specified does not exist",
    "CLOSEOUT_POSITION_DOESNT_EXIST": "The Position requested to be closed out does not exist",
}


def sentence(reason: str) -> str:
    """The error message that goes with a reject reason."""
    return SENTENCES.get(reason) or reason.replace("_", " ").capitalize()
