"""Intents, transactions and records of live trading, one of each kind, for tests that keep them somewhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from mbats.live.journal import IntentRow, IntentState
from mbats.oanda.transactions import Transaction
from mbats.riskdb.live_records import (
    AccountEquityRecord,
    DeploymentRecord,
    EquityRecord,
    FillRecord,
    HeartbeatRecord,
    LiveRecord,
    ModelDecisionRecord,
    OrderEventRecord,
    PositionRecord,
    ReconciliationRecord,
    RiskEventRecord,
    RunRecord,
    TradeRecord,
    TransactionRecord,
)

NOW = datetime(2024, 5, 14, 10, 5, 1, 234567, tzinfo=UTC)
ACCOUNT = "101-004-1234567-001"

INTENT = IntentRow(
    client_id="mbats:rsi-eurusd:EUR_USD:20240514T100000Z:open-long",
    deployment="rsi-eurusd",
    symbol="EUR_USD",
    bar=NOW.replace(minute=0, second=0, microsecond=0),
    purpose="open-long",
    units=Decimal("1000.0"),
    form="market",
    price=None,
    stop=Decimal("1.08000"),
    target=Decimal("1.1"),
    trail=None,
    reduce_only=True,
    session="20240514T095900",
    ref=7,
    why='bar "10:00", ünïcode',
    code_version="2.0.0+gabc",
    state=IntentState.DECIDED,
    decided_at=NOW,
    updated_at=NOW,
    valid_until=NOW + timedelta(minutes=5),
    body={"order": {"units": "1000", "nothing": None, "list": [1, 2.5, True]}},
)


def intent(number: int, **changes: Any) -> IntentRow:
    """The sample under a name of its own."""
    return replace(INTENT, client_id=f"{INTENT.client_id}{number}", **changes)


def transaction(number: int) -> Transaction:
    """A fill, as far as a log cares."""
    body = {"id": str(number), "type": "ORDER_FILL", "time": "2024-05-14T10:05:01.234567891Z", "pl": "-1.2345"}
    return Transaction(number, "ORDER_FILL", NOW, body)


DEPLOYMENT = DeploymentRecord(
    name="rsi-eurusd",
    strategy="rsi",
    source='"""A file, "quoted", with\ttabs, ünïcode and a \\ in it."""\n',
    parameters={"period": 14, "risk": 0.01},
    symbols=("EUR_USD", "USD_JPY"),
    granularity="M5",
    account="paper",
    account_id=ACCOUNT,
    mode="paper",
    limits={"max_daily_loss": "0.02"},
    created_at=NOW,
    created_by="ann",
    code_version="2.0.0+gabc",
    seed=2**40,
    warmup_bars=200,
    warmup_from=NOW - timedelta(days=2),
    desired="running",
    state="live",
    updated_at=NOW,
)

RUN = RunRecord(
    deployment="rsi-eurusd",
    session="20240514T095900",
    account_id=ACCOUNT,
    mode="paper",
    strategy="rsi",
    source=DEPLOYMENT.source,
    parameters={"period": 14, "risk": 0.01},
    symbols=("EUR_USD", "USD_JPY"),
    granularity="M5",
    period_start=NOW,
    account_currency="USD",
    starting_cash=Decimal("100000.0001"),
    seed=2**40,
    code_version="2.0.0+gabc",
    versions={"python": "3.11.7"},
    data_source="simulator",
    started_at=NOW,
)

FILL = FillRecord(
    deployment="rsi-eurusd",
    session="20240514T095900",
    transaction_id=2**40,
    time=NOW,
    symbol="EUR_USD",
    units=Decimal("-1000.5"),
    price=Decimal("1.08123"),
    mid=Decimal("1.081235"),
    order_ref=2**40 - 1,
    order_type="Market",
    purpose="entry",
    conversion=Decimal(1) / Decimal(7),
    pnl=Decimal("-1.2345"),
    spread_cost=Decimal("0.005"),
    slippage_cost=Decimal(0),
    position_after=Decimal("-1000.5"),
    client_id=INTENT.client_id,
)
POSITION = PositionRecord("rsi-eurusd", "20240514T095900", 2**40, NOW, "EUR_USD", Decimal("-1000.5"), Decimal("1.08123"))
TRADE = TradeRecord(
    deployment="rsi-eurusd",
    session="20240514T095900",
    transaction_id=2**40,
    symbol="EUR_USD",
    units=Decimal("-1000.5"),
    opened_at=NOW,
    closed_at=NOW + timedelta(hours=1),
    open_price=Decimal("1.08123"),
    close_price=Decimal("1.07"),
    bars=12,
    gross_pnl=Decimal("11.5"),
    spread_cost=Decimal("0.25"),
    slippage_cost=Decimal("0.25"),
    financing=Decimal("-0.5"),
    net_pnl=Decimal("10.5"),
    mfe=Decimal(20),
    mae=Decimal(-3),
)
EQUITY = EquityRecord("rsi-eurusd", "20240514T095900", NOW, Decimal("100000.01"), Decimal("99999.1"), Decimal("33.3"))
RISK_EVENT = RiskEventRecord(
    account_id=ACCOUNT,
    key="refusal 1",
    at=NOW,
    kind="refusal",
    level="warning",
    code="spread",
    sentence="The spread is too wide.",
    deployment="rsi-eurusd",
    symbol="EUR_USD",
    found=Decimal("0.0009"),
    allowed=Decimal("0.0003"),
    detail={"at": "open"},
)
RECONCILIATION = ReconciliationRecord(
    account_id=ACCOUNT,
    day=date(2024, 5, 14),
    at=NOW,
    currency="USD",
    first_transaction=3,
    last_transaction=9,
    opening_balance=Decimal(100),
    pl=Decimal("1.5"),
    financing=Decimal("-0.1"),
    transferred=Decimal(10),
    charged=Decimal("-0.4"),
    book_balance=Decimal(111),
    broker_balance=Decimal(111),
)
MODEL_DECISION = ModelDecisionRecord(
    deployment="rsi-eurusd",
    session=RUN.session,
    symbol="EUR_USD",
    time=NOW,
    role="model",
    model="rsi_stochastic/3",
    features=(31.25, 0.1, 1e-7),
    prediction=-0.0004,
    latency_ms=1.5,
)

# In an order in which the database can take them: a run before what happened in it.
RECORDS: tuple[LiveRecord, ...] = (
    DEPLOYMENT,
    RUN,
    INTENT.record(),
    OrderEventRecord(ACCOUNT, "1234.0", NOW, "rsi-eurusd", "EUR_USD", "completed", INTENT.client_id, 12, 1234, Decimal(5)),
    FILL,
    POSITION,
    TRADE,
    EQUITY,
    AccountEquityRecord(ACCOUNT, NOW, "USD", Decimal("100000.01"), Decimal("99999.1"), Decimal("33.3")),
    RISK_EVENT,
    HeartbeatRecord("trader", NOW, "well", {"deployments": 3}),
    TransactionRecord(ACCOUNT, 1234, NOW, "ORDER_FILL", {"id": "1234", "pl": "1.10", "full": [1, 2.5, None]}),
    RECONCILIATION,
    MODEL_DECISION,
)
