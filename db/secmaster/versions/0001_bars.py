"""Symbols, bars, their revisions, the record of downloads, and the two views of 2020."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

FIRST_YEAR, LAST_YEAR = 2000, 2040

REFERENCE = """
CREATE TABLE data_vendor (
    id          smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE exchange (
    id          smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    abbrev      text NOT NULL UNIQUE,
    name        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO exchange (abbrev, name) VALUES ('FX', 'Foreign exchange, over the counter');

CREATE TABLE symbol (
    id                 integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    exchange_id        smallint NOT NULL REFERENCES exchange,
    name               text NOT NULL UNIQUE,
    display_name       text NOT NULL,
    type               text NOT NULL,
    pip_location       smallint NOT NULL,
    display_precision  smallint NOT NULL CHECK (display_precision >= 0),
    units_precision    smallint NOT NULL CHECK (units_precision >= 0),
    minimum_units      numeric NOT NULL CHECK (minimum_units > 0),
    maximum_units      numeric NOT NULL CHECK (maximum_units >= minimum_units),
    margin_rate        numeric NOT NULL CHECK (margin_rate > 0 AND margin_rate <= 1),
    long_rate          numeric NOT NULL,
    short_rate         numeric NOT NULL,
    financing_days     smallint[] NOT NULL CHECK (array_ndims(financing_days) = 1 AND cardinality(financing_days) = 7),
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN symbol.financing_days IS 'Monday first: days of financing charged at 17:00 New York of that weekday';
"""

# `time` is the bar's start. `loaded_at` is when this version of the bar came in; the versions that it replaced are in
# bar_revision, so that the bars of any past moment can be put together again.
# bar has no foreign key to symbol: symbols are never deleted, and the check would be made for each of millions of rows.
BARS = """
CREATE TABLE bar (
    time            timestamptz NOT NULL,
    loaded_at       timestamptz NOT NULL DEFAULT now(),
    bid_open        double precision NOT NULL,
    bid_high        double precision NOT NULL,
    bid_low         double precision NOT NULL,
    bid_close       double precision NOT NULL,
    ask_open        double precision NOT NULL,
    ask_high        double precision NOT NULL,
    ask_low         double precision NOT NULL,
    ask_close       double precision NOT NULL,
    volume          bigint NOT NULL CHECK (volume >= 0),
    symbol_id       integer NOT NULL,
    data_vendor_id  smallint NOT NULL,
    granularity     text COLLATE "C" NOT NULL,
    PRIMARY KEY (symbol_id, granularity, time),
    CONSTRAINT bar_bid_holds_together CHECK (
        bid_low > 0 AND bid_low <= least(bid_open, bid_close) AND bid_high >= greatest(bid_open, bid_close)
        AND bid_high < 'infinity'),
    CONSTRAINT bar_ask_holds_together CHECK (
        ask_low > 0 AND ask_low <= least(ask_open, ask_close) AND ask_high >= greatest(ask_open, ask_close)
        AND ask_high < 'infinity'),
    CONSTRAINT bar_ask_is_not_below_bid CHECK (ask_open >= bid_open AND ask_close >= bid_close)
) PARTITION BY RANGE (time);

CREATE TABLE bar_revision (
    symbol_id       integer NOT NULL REFERENCES symbol,
    granularity     text COLLATE "C" NOT NULL,
    time            timestamptz NOT NULL,
    loaded_at       timestamptz NOT NULL,
    replaced_at     timestamptz NOT NULL,
    data_vendor_id  smallint NOT NULL REFERENCES data_vendor,
    bid_open        double precision NOT NULL,
    bid_high        double precision NOT NULL,
    bid_low         double precision NOT NULL,
    bid_close       double precision NOT NULL,
    ask_open        double precision NOT NULL,
    ask_high        double precision NOT NULL,
    ask_low         double precision NOT NULL,
    ask_close       double precision NOT NULL,
    volume          bigint NOT NULL,
    PRIMARY KEY (symbol_id, granularity, time, replaced_at)
);

CREATE TABLE ingest_run (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source       text NOT NULL,
    symbol       text NOT NULL,
    granularity  text NOT NULL,
    period_start timestamptz NOT NULL,
    period_end   timestamptz NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz,
    status       text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'ok', 'failed', 'interrupted')),
    inserted     bigint,
    revised      bigint,
    unchanged    bigint,
    error        text,
    CHECK ((status IN ('running', 'interrupted')) = (finished_at IS NULL)),
    CHECK ((status = 'failed') = (error IS NOT NULL))
);
CREATE INDEX ingest_run_of_symbol ON ingest_run (symbol, granularity, started_at DESC);
"""

# The column names and types of 2020, stock_id included; prices are mid, times are UTC without a zone.
VIEW = """
CREATE VIEW {view} AS
SELECT data_vendor_id::integer                            AS data_vendor_id,
       symbol_id                                          AS stock_id,
       (SELECT least(bar.loaded_at, min(old.loaded_at)) FROM bar_revision old
        WHERE (old.symbol_id, old.granularity, old.time) = (bar.symbol_id, bar.granularity, bar.time)
       ) AT TIME ZONE 'UTC'                               AS created_date,
       loaded_at AT TIME ZONE 'UTC'                       AS last_updated_date,
       time AT TIME ZONE 'UTC'                            AS date_price,
       (bid_open + ask_open) / 2                          AS open_price,
       (bid_high + ask_high) / 2                          AS high_price,
       (bid_low + ask_low) / 2                            AS low_price,
       (bid_close + ask_close) / 2                        AS close_price,
       volume
FROM bar WHERE granularity = '{granularity}';
"""

GRANTS = """
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO mbats_ingest, mbats_trading, mbats_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mbats_ingest, mbats_trading;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO mbats_ingest, mbats_trading;
GRANT INSERT ON data_vendor, bar_revision TO mbats_ingest;
GRANT INSERT, UPDATE ON exchange, symbol, bar, ingest_run TO mbats_ingest;
GRANT SELECT ON daily_data, minute_data TO mbats_reader;
"""


def upgrade() -> None:
    op.execute(REFERENCE)
    op.execute(BARS)
    for year in range(FIRST_YEAR, LAST_YEAR):
        op.execute(f"CREATE TABLE bar_{year} PARTITION OF bar FOR VALUES FROM ('{year}-01-01Z') TO ('{year + 1}-01-01Z')")
    op.execute("CREATE TABLE bar_other PARTITION OF bar DEFAULT")  # no bar is ever refused for its year
    op.execute(VIEW.format(view="daily_data", granularity="D"))
    op.execute(VIEW.format(view="minute_data", granularity="M1"))
    op.execute(GRANTS)
