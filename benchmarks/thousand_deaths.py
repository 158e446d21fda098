"""A thousand traders die, and nothing is lost: a real trader is killed, cut off and lied to, in seeded runs at a real exchange.

`.venv/bin/python benchmarks/thousand_deaths.py --runs 1000 --seed 1`. Needs no service. Each run has two or three deployments on
one netting account, some bars with orders, and a few deaths and faults, all drawn from its number (tests/live/deaths/script.py).
At its end the faults are taken away, the trader starts once more, and the books of its journal are held to the exchange's.

Ends with 1 when an order was dealt twice, anything at the broker or in the journal is nobody's, a position is without its stop,
or a ledger differs. Those runs are told by their numbers, and their journals and logs stay in the folder that is printed;
`--runs 1 --seed 17` plays run 17 again.
"""

from __future__ import annotations

import argparse
import queue
import shutil
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from live.deaths.running import Result, Theatre

ZEROS = ("duplicates", "orphans", "naked", "differences")


def main() -> int:
    """Play, print, and say by the exit code whether the four zeros are zero."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the others follow")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, each with an exchange of its own")
    asked = parser.parse_args()
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="deaths-"))
    played, broken = play(range(asked.seed, asked.seed + asked.runs), asked.workers, folder, console)
    show(played, broken, console)
    bad = broken or any(result.findings.all() for result in played)
    if bad:
        console.print(f"Journals and logs: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if bad else 0


def play(seeds: range, workers: int, folder: Path, console: Console) -> tuple[list[Result], dict[int, str]]:
    """The runs of these numbers, and those that could not be played to their end, with the reason."""
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    for seed in seeds:
        left.put(seed)
    played: list[Result] = []
    broken: dict[int, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("deaths", total=len(seeds))

        def work(theatre: Theatre, number: int) -> None:
            for round in range(len(seeds)):
                try:
                    seed = left.get_nowait()
                except queue.Empty:
                    break
                try:
                    result = theatre.play(seed)
                except Exception as error:
                    broken[seed] = f"{type(error).__name__}: {error}"
                    theatre.__exit__()
                    theatre = Theatre(folder / f"exchange{number}-{round}")
                else:
                    played.append(result)
                    for text in result.findings.all():
                        console.print(f"run {seed}: {text}", markup=False)
                progress.advance(task)
            theatre.__exit__()

        theatres = [Theatre(folder / f"exchange{number}") for number in range(min(workers, len(seeds)))]
        threads = [threading.Thread(target=work, args=(each, number)) for number, each in enumerate(theatres)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return played, broken


def show(played: list[Result], broken: dict[int, str], console: Console) -> None:
    """The counts."""
    faults, deaths = Counter[str](), Counter[str]()
    for result in played:
        faults.update({name: count for name, count in result.faults.items() if count})
        deaths.update(result.deaths)
    by_kind = ", ".join(f"{name} {count}" for name, count in faults.most_common())
    rows = {
        "runs": len(played),
        "lives of traders": sum(each.lives for each in played),
        "kill -9 of a trader": f"{sum(each.kills for each in played)} (at a line {deaths['line']}, at a point {deaths['point']}, "
        f"from outside {deaths['time']}); stopped {deaths['stop']}",
        "kill -9 of the exchange": faults["kill"],
        "faults struck": f"{faults.total()}: {by_kind}",
        "orders at the exchange": sum(each.sent for each in played),
        "fills": sum(each.fills for each in played),
        "of them by stops": sum(each.stopped_out for each in played),
        "seconds a run": f"{sum(each.seconds for each in played) / max(1, len(played)):.2f}",
    }
    table = Table(title="the thousand deaths", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    table.add_section()
    for name in ZEROS:
        count = sum(len(getattr(each.findings, name)) for each in played)
        table.add_row(name, str(count), style="bold green" if not count else "bold red")
    if broken:
        table.add_row("runs that broke off", str(len(broken)), style="bold red")
    console.print(table)
    for seed, why in broken.items():
        console.print(f"run {seed} broke off: {why}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
