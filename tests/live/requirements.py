"""The 36 requirements of live trading, and the tests that prove each; `python tests/live/requirements.py` writes their page.

A test says what it proves by `@pytest.mark.proves("R7")`. Marks are read from the files, so that nothing has to be started.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "live-requirements.md"

REQUIREMENTS = {
    "R1": "What is about to be sent is on the disk first, with its name, bar and reason.",
    "R2": "An order without a certain answer is unknown: not taken for refused, and not sent again.",
    "R3": "What is unknown is looked for in the broker's log; it is sent again only if proven absent and still wanted.",
    "R4": "An order's name is also that of the trade it opens, so that the same order twice opens one trade.",
    "R5": "Each way in which an order comes to nothing has its own status and reason, up to the strategy.",
    "R6": "A fill is booked and told once, however often and by whichever way it comes.",
    "R7": "The stream may tell of an order before its answer comes.",
    "R8": "Transactions are ordered as numbers and applied without a gap; what is missing is fetched first.",
    "R9": "A heartbeat that knows of more transactions than we do has them fetched.",
    "R10": "A stream that ends cleanly is a lost connection.",
    "R11": "Each stream that is silent for ten seconds is opened anew, without regard to the other.",
    "R12": "Connections are tried again for ever, with growing and uneven pauses, never more than two a second.",
    "R13": "After a lost connection: read what was missed, compare, and only then decide.",
    "R14": "Each complete bar reaches the strategy once and in order, also after a gap; incomplete ones never do.",
    "R15": "The books are compared with the broker regularly; a difference stops openings, is taken over and reported.",
    "R16": "A position that cannot be asked for is unknown, not flat.",
    "R17": "A restart takes up what is its own, and reports and leaves alone what is not.",
    "R18": "Whatever must have a stop has it at the broker, or gets it, or is closed.",
    "R19": "Stop and target go with the entry; when one ends the position the other is cancelled, and each end is told once.",
    "R20": "Numbers are exact, have the instrument's digits, and never grow; an order that becomes too small is left out.",
    "R21": "Orders, positions, trades and margin stay within limits, with everything that is out filled.",
    "R22": "No order on a price far from those before it; every market order has a worst price.",
    "R23": "No order on an old or untradeable price, at weekends, or in the break at 17:00 New York.",
    "R24": "One decision is one order: of one deployment, pair, bar and side, and of one trader on an account.",
    "R25": "Messages are limited far below what the broker allows; a strategy that keeps ordering is locked.",
    "R26": "Reads that fail are asked again with growing pauses; writes only after the log was read.",
    "R27": "One command halts and takes back, or flattens until fills confirm it; during outages too, and over a restart.",
    "R28": "While only reducing is allowed, nothing makes a position larger or turns it round.",
    "R29": "Losses of a day, from the peak, or in a row lock a deployment until their time is over or a person resumes.",
    "R30": "A refused token stops everything and is reported, without further requests.",
    "R31": "The difference between our clock and the broker's is measured; one second is told of, five block new exposure.",
    "R32": "Every call ends in a limited time, and no thread dies or hangs unseen.",
    "R33": "Every type of transaction is booked or recorded, also one that did not exist yesterday; none breaks anything.",
    "R34": "At the end of a day our sums are those of the broker's log to the cent; who ordered what and why is recorded.",
    "R35": "A stop in order loses nothing; a process that keeps dying stays down until a person starts it.",
    "R36": "Paper and live differ by address, token and account only; live needs a second word, and what contradicts is refused.",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """A test that carries a requirement's mark; `file` is relative to the tests."""

    requirement: str
    file: str
    test: str

    @property
    def sentence(self) -> str:
        return self.test.removeprefix("test_").replace("_", " ")


def find_proofs(folder: Path = TESTS) -> list[Proof]:
    """Every mark in the test files of a folder, by requirement, file and place. Raises ValueError for one that cannot be read."""
    found = [proof for path in sorted(folder.rglob("test_*.py")) for proof in _in_file(path, folder)]
    return sorted(found, key=lambda each: (int(each.requirement[1:]), each.file))


def _in_file(path: Path, folder: Path) -> Iterator[Proof]:
    file = path.relative_to(folder).as_posix()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            # Of one test that carries a mark for each of its cases, each requirement counts once.
            marked = dict.fromkeys(name for decorator in node.decorator_list for name in _marks(decorator, file))
            for name in marked:
                yield Proof(name, file, node.name)


def _marks(decorator: ast.expr, file: str) -> Iterator[str]:
    for call in ast.walk(decorator):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "proves":
            for value in call.args:
                if not isinstance(value, ast.Constant) or value.value not in REQUIREMENTS:
                    raise ValueError(f"{file}, line {call.lineno}: {ast.unparse(value)} is no requirement; expected R1 to R36")
                yield value.value


def make_page(proofs: list[Proof], folder: Path = TESTS) -> str:
    """The page in Markdown: each requirement, what it means here, and the tests that prove it."""
    lines = [
        "# What live trading must hold, and what proves it",
        "",
        "Each of the 36 requirements has tests that cause the fault it is about: at a real exchange process with a real journal,",
        "and where it matters with real PostgreSQL and processes that are killed. This page is made from the marks in the tests",
        "by `python tests/live/requirements.py`, and a test holds it to them.",
        "",
        "| | requirement | proven by |",
        "|---|---|---|",
    ]
    for name, sentence in REQUIREMENTS.items():
        base = os.path.relpath(folder, PAGE.parent)
        links = [f"[{each.sentence}]({base}/{each.file})" for each in proofs if each.requirement == name]
        lines.append(f"| {name} | {sentence} | {'<br>'.join(links)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(make_page(find_proofs()))
