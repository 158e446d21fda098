"""`python -m mbats.live.process FD`: run the deployment that the trader names through a pipe, and end when it says so.

Exit codes: 0 after `Quit`; 1 when the strategy or the process failed, which the trader is told before; 3 when the trader is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

from mbats.errors import MbatsError
from mbats.live.process.inbox import TRADER_GONE, Inbox
from mbats.live.process.pipe import PeerGone, Pipe, strategys_end
from mbats.live.process.session import run_session
from mbats.live.wire import Broken
from mbats.trading.strategies import where_raised

FAILED = 1


def main(arguments: Sequence[str]) -> int:
    """Serve the pipe at the inherited file descriptor that is the one argument; the exit code."""
    (fd,) = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the trader decides what becomes of it
    with open(os.devnull) as nothing:  # noqa: PTH123  a file descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    return serve(strategys_end(int(fd)))


def serve(pipe: Pipe) -> int:
    """Run one deployment over a pipe; the exit code."""
    inbox = Inbox(pipe)
    strategy = ""

    def receive() -> object:
        nonlocal strategy
        message = inbox.take()
        strategy = strategy or getattr(message, "deployment", {}).get("strategy", "")
        return message

    try:
        run_session(receive, pipe.send)
    except PeerGone:
        return TRADER_GONE
    except (Exception, SystemExit) as error:
        own = isinstance(error, MbatsError)
        message = str(error) if own else f"{type(error).__name__}: {error}"
        with contextlib.suppress(PeerGone):
            pipe.send(Broken(message, where="" if own else where_raised(error, strategy)))
        return FAILED
    return 0
