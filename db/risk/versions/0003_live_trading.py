"""What live and paper trading leave behind, and a run that goes on.

A run of a deployment is written while it lasts, so its end is not known at first; a backtest's row stays what it was when it was
recorded. Whatever happened is a row that nobody changes; what merely is (a deployment, an intent, a heartbeat, a lease) is
a row that the trader brings up to date.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RUNS = """
ALTER TABLE run
    ADD COLUMN deployment text,
    ADD COLUMN session text,
    ADD COLUMN account_id text,
    ALTER COLUMN period_end DROP NOT NULL,
    ALTER COLUMN finished_at DROP NOT NULL,
    ALTER COLUMN data_fingerprint DROP NOT NULL,
    ALTER COLUMN data_as_of DROP NOT NULL,
    DROP CONSTRAINT run_check,
    ADD CONSTRAINT run_period_is_one CHECK (period_end > period_start OR (mode <> 'backtest' AND period_end = period_start)),
    ADD CONSTRAINT run_of_the_past_is_whole CHECK (
        mode <> 'backtest' OR num_nulls(period_end, finished_at, data_fingerprint, data_as_of) = 0),
    ADD CONSTRAINT run_of_a_deployment_names_it CHECK (
        num_nulls(deployment, session, account_id) = CASE WHEN mode = 'backtest' THEN 3 ELSE 0 END),
    ADD CONSTRAINT run_deployment_session_key UNIQUE (deployment, session);

-- Rights on columns cannot tell a backtest's row from another.
CREATE FUNCTION keep_backtest() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
BEGIN
    RAISE EXCEPTION 'Run % is a backtest: its row never changes.', OLD.id USING ERRCODE = 'integrity_constraint_violation';
END
$$;
REVOKE ALL ON FUNCTION keep_backtest() FROM PUBLIC;
CREATE TRIGGER run_of_the_past_stays BEFORE UPDATE ON run
FOR EACH ROW WHEN (OLD.mode = 'backtest') EXECUTE FUNCTION keep_backtest();

-- Where a backtest counts, a deployment has the broker's numbers of transactions and orders.
ALTER TABLE fill
    ALTER COLUMN seq TYPE bigint,
    ALTER COLUMN order_ref TYPE bigint,
    ADD COLUMN client_id text,
    DROP CONSTRAINT fill_purpose_check,
    ADD CONSTRAINT fill_purpose_check CHECK (
        purpose IN ('entry', 'exit', 'stop', 'take_profit', 'margin_closeout', 'external'));
ALTER TABLE trade ALTER COLUMN seq TYPE bigint;
ALTER TABLE position ALTER COLUMN seq TYPE bigint;
"""

TABLES = """
CREATE TABLE deployment (
    name          text PRIMARY KEY,
    strategy      text NOT NULL,
    source        text NOT NULL,
    parameters    jsonb NOT NULL,
    symbols       text[] NOT NULL CHECK (cardinality(symbols) > 0),
    granularity   text NOT NULL,
    account       text NOT NULL,
    account_id    text NOT NULL,
    mode          text NOT NULL CHECK (mode IN ('paper', 'live')),
    limits        jsonb NOT NULL,
    created_at    timestamptz NOT NULL,
    created_by    text NOT NULL,
    code_version  text NOT NULL,
    seed          bigint NOT NULL,
    warmup_bars   integer CHECK (warmup_bars >= 0),
    warmup_from   timestamptz,
    desired       text NOT NULL CHECK (desired IN ('running', 'stopped')),
    state         text NOT NULL,
    updated_at    timestamptz NOT NULL,
    reason        text NOT NULL,
    extra         jsonb NOT NULL
);

CREATE TABLE order_intent (
    client_id     text PRIMARY KEY,
    deployment    text NOT NULL,
    session       text NOT NULL,
    ref           bigint NOT NULL,
    symbol        text NOT NULL,
    bar           timestamptz NOT NULL,
    purpose       text NOT NULL,
    action        text NOT NULL CHECK (action IN ('order', 'close_trade', 'replace', 'cancel')),
    units         numeric NOT NULL,
    form          text NOT NULL,
    price         numeric,
    stop          numeric,
    target        numeric,
    trail         numeric,
    reduce_only   boolean NOT NULL,
    target_id     text,
    why           text NOT NULL,
    code_version  text NOT NULL,
    state         text NOT NULL CHECK (state IN (
        'held', 'decided', 'sent', 'unknown', 'working', 'filled', 'cancelled', 'rejected', 'refused', 'absent')),
    reason        text NOT NULL,
    detail        text NOT NULL,
    order_id      bigint,
    attempts      integer NOT NULL CHECK (attempts >= 0),
    decided_at    timestamptz NOT NULL,
    sent_at       timestamptz,
    updated_at    timestamptz NOT NULL,
    valid_until   timestamptz,
    body          jsonb NOT NULL
);
CREATE INDEX order_intent_of_deployment ON order_intent (deployment, decided_at DESC);

CREATE TABLE order_event (
    account_id      text NOT NULL,
    key             text NOT NULL,
    at              timestamptz NOT NULL,
    deployment      text NOT NULL,
    symbol          text NOT NULL,
    status          text NOT NULL CHECK (status <> ''),
    client_id       text,
    order_id        bigint,
    transaction_id  bigint,
    units           numeric,
    price           numeric,
    reason          text NOT NULL,
    detail          text NOT NULL,
    PRIMARY KEY (account_id, key)
);
CREATE INDEX order_event_of_order ON order_event (client_id);
CREATE INDEX order_event_newest ON order_event (at DESC);

CREATE TABLE risk_event (
    account_id  text NOT NULL,
    key         text NOT NULL,
    at          timestamptz NOT NULL,
    kind        text NOT NULL CHECK (kind <> ''),
    level       text NOT NULL CHECK (level IN ('info', 'warning', 'critical')),
    code        text NOT NULL,
    sentence    text NOT NULL,
    deployment  text NOT NULL,
    symbol      text NOT NULL,
    "by"        text NOT NULL,
    found       numeric,
    allowed     numeric,
    until       timestamptz,
    detail      jsonb NOT NULL,
    PRIMARY KEY (account_id, key)
);
CREATE INDEX risk_event_newest ON risk_event (at DESC);

CREATE TABLE heartbeat (
    name    text PRIMARY KEY,
    at      timestamptz NOT NULL,
    state   text NOT NULL,
    detail  jsonb NOT NULL
);

-- `term` only ever grows: what was decided under an older one has lost its right.
CREATE TABLE lease (
    account_key  text PRIMARY KEY,
    holder       text NOT NULL CHECK (holder <> ''),
    term         bigint NOT NULL CHECK (term > 0),
    since        timestamptz NOT NULL,
    renewed_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL CHECK (expires_at >= renewed_at)
);

CREATE TABLE broker_transaction (
    account_id  text NOT NULL,
    id          bigint NOT NULL CHECK (id > 0),
    time        timestamptz,
    type        text NOT NULL,
    body        jsonb NOT NULL,
    PRIMARY KEY (account_id, id)
);

CREATE TABLE account_equity (
    account_id   text NOT NULL,
    time         timestamptz NOT NULL,
    currency     text NOT NULL,
    balance      numeric NOT NULL,
    nav          numeric NOT NULL,
    margin_used  numeric NOT NULL,
    PRIMARY KEY (account_id, time)
);

CREATE TABLE reconciliation (
    account_id         text NOT NULL,
    day                date NOT NULL,
    at                 timestamptz NOT NULL,
    currency           text NOT NULL,
    first_transaction  bigint NOT NULL,
    last_transaction   bigint NOT NULL,
    opening_balance    numeric NOT NULL,
    pl                 numeric NOT NULL,
    financing          numeric NOT NULL,
    transferred        numeric NOT NULL,
    charged            numeric NOT NULL,
    book_balance       numeric NOT NULL,
    broker_balance     numeric NOT NULL,
    findings           text[] NOT NULL,
    detail             jsonb NOT NULL,
    PRIMARY KEY (account_id, day, at),
    -- One that hides a difference would be worse than none.
    CONSTRAINT reconciliation_names_what_differs CHECK (
        cardinality(findings) > 0
        OR (book_balance = broker_balance
            AND book_balance = opening_balance + pl + financing + transferred + charged))
);
"""

# `fresh_at` is the moment up to which all that the trader knew is in the view. It stands still while the trader or the copying is
# down; it is NULL before anything was copied.
VIEWS = """
CREATE VIEW dash_deployments AS
SELECT deployment.name                                                   AS deployment,
       deployment.strategy,
       array_to_string(deployment.symbols, ', ')                         AS symbols,
       deployment.granularity,
       (SELECT string_agg(format('%s=%s', key, value), ', ' ORDER BY key)
        FROM jsonb_each_text(deployment.parameters))                     AS parameters,
       deployment.account,
       deployment.mode,
       deployment.desired,
       deployment.state,
       deployment.reason,
       deployment.code_version,
       deployment.created_at,
       deployment.created_by,
       deployment.updated_at,
       newest.id                                                         AS run_id,
       newest.started_at,
       newest.finished_at,
       mirror.at                                                         AS fresh_at
FROM deployment
LEFT JOIN heartbeat mirror ON mirror.name = 'mirror:' || deployment.account_id
LEFT JOIN LATERAL (
    SELECT run.id, run.started_at, run.finished_at FROM run
    WHERE run.deployment = deployment.name ORDER BY run.id DESC LIMIT 1) newest ON true;

CREATE VIEW dash_live_orders AS
SELECT order_intent.decided_at,
       order_intent.deployment,
       deployment.account,
       deployment.mode,
       order_intent.symbol,
       order_intent.purpose,
       order_intent.action,
       order_intent.form,
       order_intent.units::double precision                              AS units,
       order_intent.price::double precision                              AS price,
       order_intent.stop::double precision                               AS stop,
       order_intent.target::double precision                             AS target,
       order_intent.trail::double precision                              AS trail,
       order_intent.state,
       order_intent.state IN ('held', 'decided', 'sent', 'unknown', 'working') AS open,
       order_intent.reason,
       order_intent.detail,
       order_intent.bar,
       order_intent.sent_at,
       order_intent.updated_at,
       order_intent.order_id,
       order_intent.client_id,
       order_intent.why,
       order_intent.code_version,
       mirror.at                                                         AS fresh_at
FROM order_intent
LEFT JOIN deployment ON deployment.name = order_intent.deployment
LEFT JOIN heartbeat mirror ON mirror.name = 'mirror:' || deployment.account_id;

-- The last word on each symbol of a deployment; a run that has not said anything yet leaves the word to the one before.
CREATE VIEW dash_live_positions AS
SELECT newest.deployment,
       deployment.account,
       newest.mode,
       newest.symbol,
       newest.units::double precision                                    AS units,
       newest.price::double precision                                    AS average_price,
       newest.time                                                       AS since,
       newest.run_id,
       mirror.at                                                         AS fresh_at
FROM (
    SELECT DISTINCT ON (run.deployment, position.symbol)
           run.deployment, run.mode, run.account_id, position.*
    FROM run JOIN position ON position.run_id = run.id
    WHERE run.mode <> 'backtest'
    ORDER BY run.deployment, position.symbol, position.run_id DESC, position.seq DESC) newest
LEFT JOIN deployment ON deployment.name = newest.deployment
LEFT JOIN heartbeat mirror ON mirror.name = 'mirror:' || newest.account_id
WHERE newest.units <> 0;

CREATE VIEW dash_live_equity AS
SELECT run.id                                                            AS run_id,
       run.deployment,
       run.mode,
       run.strategy,
       run.account_currency,
       equity.time,
       equity.balance,
       equity.nav,
       equity.margin_used,
       equity.nav / nullif(run.starting_cash, 0)::double precision - 1   AS growth,
       mirror.at                                                         AS fresh_at
FROM run
JOIN equity ON equity.run_id = run.id
LEFT JOIN heartbeat mirror ON mirror.name = 'mirror:' || run.account_id
WHERE run.mode <> 'backtest';

CREATE VIEW dash_risk_events AS
SELECT risk_event.at,
       risk_event.level,
       risk_event.kind,
       risk_event.code,
       risk_event.sentence,
       risk_event.deployment,
       risk_event.symbol,
       risk_event."by",
       risk_event.found::double precision                                AS found,
       risk_event.allowed::double precision                              AS allowed,
       risk_event.until,
       risk_event.account_id,
       coalesce(mirror.at, (SELECT max(at) FROM heartbeat WHERE name LIKE 'mirror:%')) AS fresh_at
FROM risk_event
LEFT JOIN heartbeat mirror ON mirror.name = 'mirror:' || risk_event.account_id;
"""

GRANTS = """
GRANT INSERT ON deployment, order_intent, order_event, risk_event, heartbeat, lease, broker_transaction, account_equity,
    reconciliation TO mbats_trading;
GRANT UPDATE ON deployment, order_intent, heartbeat, lease TO mbats_trading;
GRANT UPDATE (period_end, finished_at) ON run TO mbats_trading;
GRANT SELECT ON dash_deployments, dash_live_orders, dash_live_positions, dash_live_equity, dash_risk_events TO mbats_dashboard;
"""


def upgrade() -> None:
    op.execute(RUNS)
    op.execute(TABLES)
    op.execute(VIEWS)
    op.execute(GRANTS)
