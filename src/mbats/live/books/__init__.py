"""Who owns what of an account that several deployments share, told from the broker's transactions alone."""

from mbats.live.books.account import Books
from mbats.live.books.events import (
    Alarm,
    BookEvent,
    Cancelled,
    Created,
    Filled,
    Financed,
    Noted,
    Rejected,
    Role,
    Transferred,
)
from mbats.live.books.parts import Held, Lot, Pending, Protector

__all__ = [
    "Alarm",
    "BookEvent",
    "Books",
    "Cancelled",
    "Created",
    "Filled",
    "Financed",
    "Held",
    "Lot",
    "Noted",
    "Pending",
    "Protector",
    "Rejected",
    "Role",
    "Transferred",
]
