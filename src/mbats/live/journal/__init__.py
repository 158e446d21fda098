"""The trader's first durable log: one SQLite file, written and synced before anything is sent."""

from mbats.live.journal.intents import IntentRow, IntentState
from mbats.live.journal.journal import Journal

__all__ = ["IntentRow", "IntentState", "Journal"]
