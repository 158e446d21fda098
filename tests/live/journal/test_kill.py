"""A process that is killed while it writes: what it was told is kept is there, and nothing is half there."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mbats.live.journal import Journal
from mbats.settings import PROJECT_ROOT

# Each commit is an intent, its change, two transactions and a text; its number is said only when the block is over.
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from live_samples import intent, transaction
from mbats.live.journal import IntentState, Journal

journal = Journal.open(Path(sys.argv[1]))
n = int(journal.load("n") or 0)
while True:
    with journal.write():
        journal.add_intent(intent(n))
        journal.update_intent(intent(n).client_id, state=IntentState.SENT)
        journal.add_transactions([transaction(2 * n + 1), transaction(2 * n + 2)])
        journal.save("n", str(n + 1))
        if n % 7 == 6:
            journal.taken(journal.outbox(100)[-1][0])
    n += 1
    print(n, flush=True)
"""


@pytest.mark.proves("R1")
def test_a_kill_at_any_line_keeps_every_commit_whole_and_none_is_lost(tmp_path: Path) -> None:
    path, chance = tmp_path / "journal.db", random.Random(20240514)
    told = 0
    for _ in range(8):
        argv = [sys.executable, "-c", WRITER, str(path), str(PROJECT_ROOT / "tests")]
        writer = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(chance.randint(1, 60)):
            told = int(writer.stdout.readline())
        # Counted in work and not in time, so that a busy machine kills in as many places as an idle one.
        for _ in range(chance.randint(0, 20_000)):
            pass

        writer.kill()
        told = int(([told, *map(int, writer.stdout.read().split())])[-1])
        writer.wait()
        writer.stdout.close()

        with closing(Journal.open(path)) as journal:
            kept = int(journal.load("n") or 0)
            assert kept in (told, told + 1)  # the last commit may have been done and not told any more
            rows = journal.intents()
            assert len(rows) == kept
            assert all(row.state == "sent" for row in rows)
            assert journal.last_transaction_id() == 2 * kept
            assert len(journal.transactions()) == 2 * kept
            assert journal.outbox_size().waiting == 2 * (kept % 7)
