"""Runs with their fills, trades, positions, equity and figures."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# numeric without a scale keeps every digit of a Decimal, so that the sums below hold exactly and not to a rounding.
TABLES = """
CREATE TABLE run (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mode              text NOT NULL DEFAULT 'backtest' CHECK (mode IN ('backtest', 'paper', 'live')),
    recorded_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    strategy          text NOT NULL,
    source            text NOT NULL,
    parameters        jsonb NOT NULL,
    symbols           text[] NOT NULL CHECK (cardinality(symbols) > 0),
    granularity       text NOT NULL,
    period_start      timestamptz NOT NULL,
    period_end        timestamptz NOT NULL CHECK (period_end > period_start),
    account_currency  text NOT NULL,
    starting_cash     numeric NOT NULL,
    costs             jsonb NOT NULL,
    fills             text NOT NULL,
    seed              bigint NOT NULL,
    code_version      text NOT NULL,
    versions          jsonb NOT NULL,
    data_source       text NOT NULL,
    data_fingerprint  text NOT NULL,
    data_as_of        timestamptz NOT NULL,
    started_at        timestamptz NOT NULL,
    finished_at       timestamptz NOT NULL CHECK (finished_at >= started_at),
    model_version     text,
    in_sample         boolean,
    warnings          text[] NOT NULL,
    UNIQUE (id, starting_cash)
);
CREATE INDEX run_newest ON run (recorded_at DESC);
CREATE INDEX run_of_strategy ON run (strategy, recorded_at DESC);

CREATE TABLE fill (
    run_id          bigint NOT NULL REFERENCES run,
    seq             integer NOT NULL,
    time            timestamptz NOT NULL,
    symbol          text NOT NULL,
    units           numeric NOT NULL CHECK (units <> 0),
    price           numeric NOT NULL CHECK (price > 0),
    mid             numeric NOT NULL CHECK (mid > 0),
    order_ref       integer NOT NULL,
    order_type      text NOT NULL,
    purpose         text NOT NULL CHECK (purpose IN ('entry', 'exit', 'stop', 'take_profit', 'margin_closeout')),
    conversion      numeric NOT NULL CHECK (conversion > 0),
    pnl             numeric NOT NULL,
    spread_cost     numeric NOT NULL,
    slippage_cost   numeric NOT NULL,
    position_after  numeric NOT NULL,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE trade (
    run_id         bigint NOT NULL REFERENCES run,
    seq            integer NOT NULL,
    symbol         text NOT NULL,
    units          numeric NOT NULL CHECK (units <> 0),
    opened_at      timestamptz NOT NULL,
    closed_at      timestamptz CHECK (closed_at >= opened_at),
    open_price     numeric NOT NULL CHECK (open_price > 0),
    close_price    numeric NOT NULL CHECK (close_price > 0),
    bars           integer NOT NULL CHECK (bars >= 0),
    gross_pnl      numeric NOT NULL,
    spread_cost    numeric NOT NULL,
    slippage_cost  numeric NOT NULL,
    financing      numeric NOT NULL,
    net_pnl        numeric NOT NULL,
    mfe            numeric NOT NULL CHECK (mfe >= 0),
    mae            numeric NOT NULL CHECK (mae <= 0),
    PRIMARY KEY (run_id, seq),
    CONSTRAINT trade_adds_up CHECK (net_pnl = gross_pnl - spread_cost - slippage_cost + financing)
);

CREATE TABLE position (
    run_id  bigint NOT NULL REFERENCES run,
    seq     integer NOT NULL,
    time    timestamptz NOT NULL,
    symbol  text NOT NULL,
    units   numeric NOT NULL,
    price   numeric NOT NULL CHECK (price >= 0),
    PRIMARY KEY (run_id, seq),
    CONSTRAINT position_has_a_price_when_open CHECK ((units = 0) = (price = 0))
);

CREATE TABLE equity (
    run_id       bigint NOT NULL REFERENCES run,
    time         timestamptz NOT NULL,
    balance      double precision NOT NULL,
    nav          double precision NOT NULL,
    margin_used  double precision NOT NULL,
    PRIMARY KEY (run_id, time)
);

CREATE TABLE performance (
    run_id             bigint PRIMARY KEY,
    bars               integer NOT NULL CHECK (bars >= 0),
    trades             integer NOT NULL CHECK (trades >= 0),
    won                integer NOT NULL CHECK (won >= 0),
    lost               integer NOT NULL CHECK (lost >= 0),
    open_trades        integer NOT NULL CHECK (open_trades >= 0),
    refused_orders     integer NOT NULL CHECK (refused_orders >= 0),
    starting_cash      numeric NOT NULL,
    ending_balance     numeric NOT NULL,
    ending_nav         numeric NOT NULL,
    gross_pnl          numeric NOT NULL,
    spread_cost        numeric NOT NULL,
    slippage_cost      numeric NOT NULL,
    financing          numeric NOT NULL,
    net_pnl            numeric NOT NULL,
    total_return       double precision NOT NULL,
    annual_return      double precision,
    annual_volatility  double precision,
    sharpe             double precision,
    sortino            double precision,
    max_drawdown       double precision NOT NULL,
    max_drawdown_days  double precision NOT NULL,
    profit_factor      double precision,
    expectancy         numeric,
    exposure           double precision NOT NULL,
    FOREIGN KEY (run_id, starting_cash) REFERENCES run (id, starting_cash),
    CONSTRAINT performance_adds_up CHECK (
        ending_nav - starting_cash = gross_pnl - spread_cost - slippage_cost + financing),
    CONSTRAINT performance_counts_add_up CHECK (won + lost <= trades)
);
"""

# A recorded run is never changed: `trading` may add and read, and nothing else.
GRANTS = """
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO mbats_trading, mbats_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mbats_trading;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO mbats_trading;
GRANT INSERT ON run, fill, trade, position, equity, performance TO mbats_trading;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(GRANTS)
