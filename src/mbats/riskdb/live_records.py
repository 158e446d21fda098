"""What live and paper trading leave in the risk database, as plain values: each has a natural key, so writing twice is writing
once.

Money is in the account's currency; money, units and prices are exact. Times have a zone. `account_id` is the broker's name of the
account (`101-004-1234567-001`), `deployment` and `session` together name a run: the trader does not know the run's number while
PostgreSQL is away, and whoever writes a record finds it by them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

# What `fill.purpose` calls the role of a fill in the books.
PURPOSES = {
    "entry": "entry",
    "exit": "exit",
    "stop": "stop",
    "target": "take_profit",
    "closeout": "margin_closeout",
    "external": "external",
}


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """A deployment as it now is; the last one written stands. Key: `name`.

    `account` is the account's name in the settings; `account_id` the broker's, "" until the broker was asked. `desired` is
    `running` or `stopped`, `state` that of the process, `reason` why it is so where that needs words.
    """

    name: str
    strategy: str
    source: str
    parameters: dict[str, Any]
    symbols: tuple[str, ...]
    granularity: str
    account: str
    account_id: str
    mode: str
    limits: dict[str, Any]
    created_at: datetime
    created_by: str
    code_version: str
    seed: int
    warmup_bars: int | None
    warmup_from: datetime | None
    desired: str
    state: str
    updated_at: datetime
    reason: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The row in `run` of a deployment on paper or live. Key: `deployment` and `session`.

    Written again it changes `period_end` and `finished_at`, which are None while it goes on, and nothing else. `starting_cash` is
    what the deployment's own equity begins with. `data_source` is where its bars come from. `models` pins each reference of the
    strategy: the JSON of the model's identity, by the reference.
    """

    deployment: str
    session: str
    account_id: str
    mode: str
    strategy: str
    source: str
    parameters: dict[str, Any]
    symbols: tuple[str, ...]
    granularity: str
    period_start: datetime
    account_currency: str
    starting_cash: Decimal
    seed: int
    code_version: str
    versions: dict[str, Any]
    data_source: str
    started_at: datetime
    period_end: datetime | None = None
    finished_at: datetime | None = None
    model_version: str | None = None
    in_sample: bool | None = None
    warnings: tuple[str, ...] = ()
    models: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IntentRecord:
    """An order that was decided on, and what is known of it; the last one written stands. Key: `client_id`.

    The fields are those of the journal's `IntentRow`. The journal writes these by itself.
    """

    client_id: str
    deployment: str
    session: str
    ref: int
    symbol: str
    bar: datetime
    purpose: str
    action: str
    units: Decimal
    form: str
    price: Decimal | None
    stop: Decimal | None
    target: Decimal | None
    trail: Decimal | None
    reduce_only: bool
    target_id: str | None
    why: str
    code_version: str
    state: str
    reason: str
    detail: str
    order_id: int | None
    attempts: int
    decided_at: datetime
    sent_at: datetime | None
    updated_at: datetime
    valid_until: datetime | None
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OrderEventRecord:
    """One thing that happened to an order. Key: `account_id` and `key`, which whoever makes it derives from what happened.

    For instance `1234.0` for the first event of transaction 1234, or `<client id> sent 1` for what no transaction tells. `status`
    is a word of `wire.Status` or of the journal's `IntentState`, in small letters. `deployment` is "" for what is not ours.
    """

    account_id: str
    key: str
    at: datetime
    deployment: str
    symbol: str
    status: str
    client_id: str | None = None
    order_id: int | None = None
    transaction_id: int | None = None
    units: Decimal | None = None
    price: Decimal | None = None
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FillRecord:
    """One fill of one deployment. Key: the run and `transaction_id`, since a transaction fills one owner once.

    `purpose` is one of `PURPOSES`' values. `mid`, `spread_cost` and `slippage_cost` as in `records.Fill`; `conversion` turns the
    quote currency into the account's. `order_ref` is the broker's number of the order.
    """

    deployment: str
    session: str
    transaction_id: int
    time: datetime
    symbol: str
    units: Decimal
    price: Decimal
    mid: Decimal
    order_ref: int
    order_type: str
    purpose: str
    conversion: Decimal
    pnl: Decimal
    spread_cost: Decimal
    slippage_cost: Decimal
    position_after: Decimal
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class PositionRecord:
    """The position of one symbol from `time` on: signed units (0 when flat) and average price (0 when flat). Key: the run and
    `transaction_id`."""

    deployment: str
    session: str
    transaction_id: int
    time: datetime
    symbol: str
    units: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class TradeRecord:
    """A round trip that is over, as `records.Trade`. Key: the run and `transaction_id`, the one that opened it.

    net_pnl = gross_pnl − spread_cost − slippage_cost + financing, exactly; mae ≤ 0 ≤ mfe.
    """

    deployment: str
    session: str
    transaction_id: int
    symbol: str
    units: Decimal
    opened_at: datetime
    closed_at: datetime
    open_price: Decimal
    close_price: Decimal
    bars: int
    gross_pnl: Decimal
    spread_cost: Decimal
    slippage_cost: Decimal
    financing: Decimal
    net_pnl: Decimal
    mfe: Decimal = Decimal(0)
    mae: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class EquityRecord:
    """A deployment's own equity at the close of a bar. Key: the run and `time`."""

    deployment: str
    session: str
    time: datetime
    balance: Decimal
    nav: Decimal
    margin_used: Decimal


@dataclass(frozen=True, slots=True)
class AccountEquityRecord:
    """What the broker says that the account is worth. Key: `account_id` and `time`."""

    account_id: str
    time: datetime
    currency: str
    balance: Decimal
    nav: Decimal
    margin_used: Decimal


@dataclass(frozen=True, slots=True)
class RiskEventRecord:
    """Something that people should be able to look up. Key: `account_id` and `key`, derived from what happened.

    `kind` is `refusal`, `latch`, `command`, `alarm`, `mismatch` or `lifecycle`; `level` is `info`, `warning` or `critical`.
    `code` is the gate's reason, or a short name; `sentence` is for people. `found`, `allowed` and `until` are a refusal's
    figures. `by` is who gave the command. `deployment` is "" for what concerns all, `account_id` "" for what concerns no account.
    """

    account_id: str
    key: str
    at: datetime
    kind: str
    level: str
    code: str
    sentence: str
    deployment: str = ""
    symbol: str = ""
    by: str = ""
    found: Decimal | None = None
    allowed: Decimal | None = None
    until: datetime | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeartbeatRecord:
    """That a part of the trader was alive at a moment; only the last one is kept. Key: `name`, such as `trader` or
    `account:<id>`."""

    name: str
    at: datetime
    state: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TransactionRecord:
    """One entry of the broker's log, whole. Key: `account_id` and `id`."""

    account_id: str
    id: int
    time: datetime | None
    type: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReconciliationRecord:
    """Our books against the broker's log at the end of a New York trading day. Key: `account_id`, `day` and `at`.

    `opening_balance` + `pl` + `financing` + `transferred` + `charged` should be `book_balance`, and that `broker_balance`;
    `charged` is commissions and fees, less than zero. `findings` are the sentences that say what differs: none when the books are
    sound.
    """

    account_id: str
    day: date
    at: datetime
    currency: str
    first_transaction: int
    last_transaction: int
    opening_balance: Decimal
    pl: Decimal
    financing: Decimal
    transferred: Decimal
    charged: Decimal
    book_balance: Decimal
    broker_balance: Decimal
    findings: tuple[str, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelDecisionRecord:
    """What a model was asked about one bar, and what it said. Key: the run, `symbol`, `time`, `role` and `model`.

    `time` is the start of the bar, `model` is `name/version`. `prediction` is the edge, None where `error` says why there is
    none. A model in the role `shadow` decides nothing.
    """

    deployment: str
    session: str
    symbol: str
    time: datetime
    role: str
    model: str
    features: tuple[float, ...]
    prediction: float | None
    latency_ms: float
    error: str | None = None


LiveRecord = (
    DeploymentRecord
    | RunRecord
    | IntentRecord
    | OrderEventRecord
    | FillRecord
    | PositionRecord
    | TradeRecord
    | EquityRecord
    | AccountEquityRecord
    | RiskEventRecord
    | HeartbeatRecord
    | TransactionRecord
    | ReconciliationRecord
    | ModelDecisionRecord
)
