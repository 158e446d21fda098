"""The owner of an account: everything that happens to it, in one thread and in one order."""

from mbats.live.owner.account import OwnerOptions
from mbats.live.owner.owner import Owner

__all__ = ["Owner", "OwnerOptions"]
