"""What must reach the trader at once loads nothing that takes long to load."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("pandas", "backtrader", "sqlalchemy", "oandapyV20", "pyarrow", "boto3", "mlflow")
WORDS = "from mbats.cli import mbats, trading_state, deployments; import mbats.live.hosting.client, mbats.live.hosting.commands"


def test_a_word_to_the_trader_loads_no_library_that_it_does_not_need() -> None:
    asked = f"import sys; {WORDS}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
