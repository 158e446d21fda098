"""When a fault strikes: matches, counts, chances and windows; what is refused; and what is told of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from simulator.inprocess import NOW, SECRET, Time

from mbats.errors import UsageError
from mbats.simulator.admin.journal import ENTRIES, Journal
from mbats.simulator.clock import seconds
from mbats.simulator.faults.book import LIMIT, Faults
from mbats.simulator.faults.rules import Facts, read_rule

A, B = "101-004-1435156-001", "101-004-1435156-002"
ORDERS = Facts("rest", "POST", f"/v3/accounts/{A}/orders", A, "EUR_USD")
SUMMARY = Facts("rest", "GET", f"/v3/accounts/{A}/summary", A)
OTHER = Facts("rest", "POST", f"/v3/accounts/{B}/orders", B, "USD_JPY")
PRICE = Facts("stream", "GET", f"/v3/accounts/{A}/pricing/stream", A, "EUR_USD", "PRICE")
FILL = Facts("stream", "GET", f"/v3/accounts/{A}/transactions/stream", A, "EUR_USD", "ORDER_FILL")
BEAT = Facts("stream", "GET", f"/v3/accounts/{A}/transactions/stream", A, None, "HEARTBEAT")


class Book:
    """Faults in a time of the test's own."""

    def __init__(self, seed: int = 7) -> None:
        self.time = Time()
        self.journal = Journal(self.time.wall, self.time.wall)
        self.killed: list[int] = []
        self.faults = Faults(
            self.journal, self.time.wall, seed=seed, monotonic=self.time.monotonic, kill=lambda: self.killed.append(1)
        )

    def add(self, action: Any = "reset", **match: Any) -> int:
        read = read_rule({"match": match, "action": {"do": action} if isinstance(action, str) else action})
        return self.faults.add(*read).number

    def struck(self, *facts: Facts) -> list[bool]:
        return [bool(self.faults.striking(each)) for each in facts]


EVERYTHING = (ORDERS, SUMMARY, OTHER, PRICE, FILL, BEAT)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, (ORDERS, SUMMARY, OTHER)),
        ({"method": "post"}, (ORDERS, OTHER)),
        ({"path": "*/orders"}, (ORDERS, OTHER)),
        ({"path": f"/v3/accounts/{A}/*"}, (ORDERS, SUMMARY)),
        ({"account": B}, (OTHER,)),
        ({"instrument": "EUR_USD"}, (ORDERS,)),
        ({"method": "GET", "path": "*/orders"}, ()),
        ({"message": "*"}, (PRICE, FILL, BEAT)),
        ({"message": "ORDER_*"}, (FILL,)),
        ({"message": "*", "instrument": "EUR_USD"}, (PRICE, FILL)),
        ({"message": "*", "path": "*/transactions/stream"}, (FILL, BEAT)),
    ],
)
def test_a_rule_strikes_what_agrees_with_every_key_that_it_has(match, expected):
    book = Book()
    book.add(**match)

    assert book.struck(*EVERYTHING) == [facts in expected for facts in EVERYTHING]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"nth": 3}, [3]),
        ({"nth": [1, 4]}, [1, 4]),
        ({"times": 2}, [1, 2]),
        ({"nth": [2, 3, 5], "times": 2}, [2, 3]),
    ],
)
def test_a_rule_counts_what_agrees_with_it(match, expected):
    book = Book()
    number = book.add(method="POST", **match)
    book.struck(SUMMARY)

    struck = [place for place in range(1, 7) if book.struck(ORDERS)[0]]

    assert struck == expected
    told = book.faults.told(book.faults.rules[number])
    assert told["hits"] == len(expected)
    assert told["active"] == ("times" not in match)


def test_chances_are_drawn_by_the_seed():
    def draw(seed: int) -> list[bool]:
        book = Book(seed)
        book.add(probability=0.3)
        return book.struck(*[ORDERS] * 1000)

    assert draw(1) == draw(1) != draw(2)
    assert 250 < sum(draw(1)) < 350


def test_a_window_is_of_the_exchanges_time_and_a_ttl_of_this_machines():
    book = Book()
    book.add(window={"start": "2024-05-14T10:00:10Z", "end": f"{NOW + seconds(20)}Z"})
    ttl = book.add("close", ttl=15)
    struck = []
    for _ in range(5):
        struck.append([rule.number for rule in book.faults.striking(ORDERS)])
        book.time.elapsed += 5

    assert struck == [[2], [2], [1, 2], [1], []]
    assert [rule.number for rule in book.faults.active()] == [1]
    assert not book.faults.told(book.faults.rules[ttl])["active"]


def test_all_rules_that_agree_strike_oldest_first_and_each_is_journalled():
    book = Book()
    book.add("duplicate", method="POST")
    book.add({"do": "reset", "when": "after"}, path="*/orders")

    assert [rule.number for rule in book.faults.striking(ORDERS)] == [1, 2]
    entries = book.journal.find({"kind": "fault"})
    assert [(entry["rule"], entry["action"], entry["path"]) for entry in entries] == [
        ("1", "duplicate", ORDERS.path),
        ("2", "reset", ORDERS.path),
    ]


def test_rules_that_struck_nothing_are_found():
    book = Book()
    book.add(method="PUT")
    book.add(method="POST")
    book.struck(ORDERS)

    assert [rule["id"] for rule in book.faults.to_json(never_hit=True)] == ["1"]
    assert [rule["hits"] for rule in book.faults.to_json()] == [0, 1]


def test_rules_are_taken_away_one_by_one_or_all():
    book = Book()
    first, second = book.add(), book.add()
    book.faults.remove(first)
    assert book.struck(ORDERS) == [True]
    assert [rule.number for rule in book.faults.clear()] == [second]
    assert book.struck(ORDERS) == [False]


def test_there_are_not_too_many():
    book = Book()
    for _ in range(LIMIT):
        book.add()
    with pytest.raises(UsageError, match="1000 are in force"):
        book.add()


def test_a_kill_happens_at_its_point_and_not_when_it_was_taken_away():
    book = Book()
    rule = book.faults.rules[book.add({"do": "kill", "point": "after_write"}, method="POST")]
    book.faults.arm(rule, "after_write")
    book.faults.passing("before_write")
    assert book.killed == []
    book.faults.passing("after_write")
    assert book.killed == [1]

    book.faults.arm(rule, "after_write")
    book.faults.remove(rule.number)
    book.faults.passing("after_write")
    assert book.killed == [1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "the body"),
        ({}, "action: Field required"),
        ({"action": {}}, "Unable to extract tag using discriminator 'do'"),
        ({"action": {"do": "explode"}}, "'explode'"),
        ({"action": {"do": "reset"}}, r"needs a 'match'; \{\} is every request"),
        ({"match": {"paths": "*"}, "action": {"do": "reset"}}, "match.paths: Extra inputs are not permitted"),
        ({"match": {"nth": 0}, "action": {"do": "reset"}}, "match.nth"),
        ({"match": {"probability": 2}, "action": {"do": "reset"}}, "match.probability: Input should be less than or equal to 1"),
        ({"match": {"window": {"start": "soon"}}, "action": {"do": "reset"}}, "match.window.start: .*no time in RFC 3339"),
        ({"match": {}, "action": {"do": "delay"}}, "delay.seconds: Field required"),
        ({"match": {}, "action": {"do": "delay", "seconds": -1}}, "greater than or equal to 0"),
        ({"match": {}, "action": {"do": "silence"}}, "happens to messages of streams; add 'message'"),
        ({"match": {"message": "*"}, "action": {"do": "hang"}}, "happens to requests; leave 'message' out"),
        ({"match": {}, "action": {"do": "kill", "point": "lunch"}}, "kill.point"),
    ],
)
def test_a_fault_that_cannot_be_says_why(body, words):
    with pytest.raises(UsageError, match=f"No fault was set: .*{words}"):
        read_rule(body)


# --- The journal ---------------------------------------------------------------------------------------------------------


def journal(**more: Any) -> Journal:
    return Journal(lambda: NOW, lambda: NOW, secrets=[SECRET], **more)


def test_tokens_never_come_out_of_the_journal():
    real = "0123456789abcdef0123456789abcdef-0123456789abcdef0123456789abcdef"
    kept = journal()
    kept.add("request", path=f"/v3/{SECRET}", query={"a": SECRET, SECRET: "b"}, request=f'{{"t": "{SECRET}"}}'.encode())
    kept.add("request", path="/", request=f"no json {real}".encode(), response=b"x" * 19_995 + SECRET.encode() + b"x" * 10_000)

    text = str(kept.find({}))
    assert SECRET not in text
    assert SECRET[:6] not in text
    assert real not in text
    assert "[token]" in text


def test_the_journal_forgets_the_oldest_first_by_number_and_by_size():
    kept = journal()
    for number in range(ENTRIES + 5):
        kept.add("admin", action=str(number))
    assert (len(kept.find({})), kept.find({})[0]["number"]) == (ENTRIES, 6)

    for _ in range(4000):
        kept.add("request", path="/", request=b"x" * 30_000)
    assert len(kept.find({})) < 2000
    assert kept.find({})[-1]["request"].endswith("… (cut)")


def test_the_journal_is_asked_by_patterns_and_places():
    kept = journal()
    for method, path in (("GET", "/v3/a/summary"), ("POST", "/v3/a/orders"), ("GET", "/v3/a/orders/4")):
        kept.add("request", method=method, path=path, status=200)
    kept.add("fault", action="reset")

    def numbers(**query: str) -> list[int]:
        return [entry["number"] for entry in kept.find(query)]

    assert numbers(path="*/orders*") == [2, 3]
    assert numbers(path="*/orders*", method="GET") == [3]
    assert numbers(kind="fault") == [4]
    assert numbers(status="2*", since="1") == [2, 3]
    assert numbers(limit="2") == [3, 4]
    assert numbers(limit="0") == []
    with pytest.raises(ValueError, match="no key colour; known are since, limit, kind"):
        kept.find({"colour": "red"})
    with pytest.raises(ValueError, match="since='x'; it must be a whole number"):
        kept.find({"since": "x"})
    kept.forget()
    assert numbers() == []
    assert kept.add("admin")["number"] == 5


def test_what_must_outlast_the_process_is_read_by_the_next(tmp_path):
    first = journal(file=tmp_path / "sub" / "faults.jsonl")
    first.add("fault", lasting=True, action="kill", point=None, why=SECRET)
    first.add("fault", action="reset")
    second = journal(file=tmp_path / "sub" / "faults.jsonl")

    (entry,) = second.find({})
    assert (entry["action"], entry["number"], entry["beforeRestart"], entry["why"]) == ("kill", 1, True, "[token]")
    assert SECRET not in (tmp_path / "sub" / "faults.jsonl").read_text()
    assert np.datetime64(entry["time"][:26]) == NOW
