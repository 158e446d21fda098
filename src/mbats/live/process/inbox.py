"""What the trader says, read as it comes by a thread of its own: the process ends with the trader, whatever it is doing."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue
from typing import Any

from mbats.live.process.pipe import Pipe
from mbats.live.wire import Quit

TRADER_GONE = 3  # the exit code of a process whose trader went away without a word


class Inbox:
    """Keeps what has been received until it is taken. Reading on also keeps the trader from waiting for a busy strategy."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._messages: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def take(self) -> Any:
        """The next message; waits for it. Raises DataError when what came is none."""
        message = self._messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    def _read(self) -> None:
        while True:
            try:
                message = self._pipe.receive()
            except Exception as error:
                self._messages.put(error)  # raised where it is taken
                return
            if message is None:
                os._exit(TRADER_GONE)  # at once: the strategy may be in the middle of anything, and nobody would hear it
            self._messages.put(message)
            if isinstance(message, Quit):
                return  # the trader may now close the pipe
