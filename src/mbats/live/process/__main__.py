"""Starts the process of a strategy; see `main`."""

from __future__ import annotations

import sys

from mbats.live.process.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
