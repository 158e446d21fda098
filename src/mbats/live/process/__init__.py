"""A strategy in a process of its own: Backtrader with bars from a pipe, and orders into it.

The process knows no broker, no network and no database. `pipe` is all that the trader imports of it.
"""

from __future__ import annotations

from mbats.live.process.pipe import Past, PeerGone, Pipe, child_command, strategys_end, traders_end

__all__ = ["Past", "PeerGone", "Pipe", "child_command", "strategys_end", "traders_end"]
