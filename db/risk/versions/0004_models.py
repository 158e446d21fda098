"""Which models a run used, what they said where it mattered, who put one in charge, and how far the market has drifted from them.

`run.models` pins each reference to a version: the JSON of the model's identity, by the reference as the strategy writes it.
The rest is what happened, so rows are added and never changed.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE run ADD COLUMN models jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(models) = 'object');

-- Of a backtest the bars at which the strategy sent an order, of a deployment every bar. A batch has no latency of one row.
CREATE TABLE model_decision (
    run_id      bigint NOT NULL REFERENCES run,
    symbol      text NOT NULL,
    time        timestamptz NOT NULL,
    role        text NOT NULL CHECK (role IN ('model', 'shadow')),
    model       text NOT NULL CHECK (model <> ''),
    features    double precision[] NOT NULL,
    prediction  double precision CHECK (prediction <> 'NaN'),
    latency_ms  double precision CHECK (latency_ms >= 0),
    error       text CHECK (error <> ''),
    PRIMARY KEY (run_id, symbol, time, role, model),
    CONSTRAINT model_decision_says_why_it_is_none CHECK (num_nulls(prediction, error) = 1)
);
CREATE INDEX model_decision_newest ON model_decision (time DESC);

CREATE TABLE model_promotion (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name              text NOT NULL CHECK (name <> ''),
    version           integer NOT NULL CHECK (version > 0),
    previous_version  integer CHECK (previous_version > 0),
    at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    "by"              text NOT NULL CHECK ("by" <> ''),
    why               text NOT NULL CHECK (why <> ''),
    action            text NOT NULL CHECK (action IN ('promote', 'rollback')),
    overridden        boolean NOT NULL,
    checks            jsonb NOT NULL
);
CREATE INDEX model_promotion_of_model ON model_promotion (name, id DESC);

CREATE TABLE model_drift (
    name     text NOT NULL CHECK (name <> ''),
    version  integer NOT NULL CHECK (version > 0),
    at       timestamptz NOT NULL,
    what     text NOT NULL CHECK (what = 'prediction' OR what LIKE 'feature:_%'),
    psi      double precision NOT NULL CHECK (psi >= 0),
    rows     bigint NOT NULL CHECK (rows >= 0),
    since    timestamptz NOT NULL,
    until    timestamptz NOT NULL,
    level    text NOT NULL CHECK (level IN ('ok', 'watch', 'alarm')),
    PRIMARY KEY (name, version, at, what),
    CHECK (until > since)
);
"""

# The names of the features stand with the pinned model; where a run has pinned none, the values stand alone.
VIEWS = """
CREATE VIEW dash_model_decisions AS
SELECT model_decision.run_id,
       run.mode,
       run.deployment,
       run.strategy,
       run.granularity,
       model_decision.symbol,
       model_decision.time,
       model_decision.role,
       model_decision.model,
       model_decision.prediction,
       model_decision.latency_ms,
       model_decision.error,
       (SELECT string_agg(concat_ws('=', named.name, given.value), ', ' ORDER BY given.place)
        FROM unnest(model_decision.features) WITH ORDINALITY given (value, place)
        LEFT JOIN jsonb_array_elements_text(pinned.features) WITH ORDINALITY named (name, place)
            ON named.place = given.place)                                AS features,
       mirror.at                                                         AS fresh_at
FROM model_decision
JOIN run ON run.id = model_decision.run_id
LEFT JOIN LATERAL (
    SELECT each.value -> 'features' AS features FROM jsonb_each(run.models) each
    WHERE format('%s/%s', each.value ->> 'name', each.value ->> 'version') = model_decision.model LIMIT 1) pinned ON true
LEFT JOIN heartbeat mirror ON mirror.name = 'mirror:' || run.account_id;

CREATE VIEW dash_model_promotions AS
SELECT model_promotion.id,
       model_promotion.at,
       model_promotion.name,
       model_promotion.version,
       format('%s/%s', model_promotion.name, model_promotion.version)    AS model,
       model_promotion.previous_version,
       model_promotion.action,
       model_promotion."by",
       model_promotion.why,
       model_promotion.overridden,
       model_promotion.checks::text                                      AS checks
FROM model_promotion;

CREATE VIEW dash_model_drift AS
SELECT model_drift.at,
       model_drift.name,
       model_drift.version,
       format('%s/%s', model_drift.name, model_drift.version)            AS model,
       model_drift.what,
       model_drift.psi,
       model_drift.level,
       model_drift.rows,
       model_drift.since,
       model_drift.until
FROM model_drift;
"""

GRANTS = """
GRANT INSERT ON model_decision, model_promotion, model_drift TO mbats_trading;
GRANT SELECT ON dash_model_decisions, dash_model_promotions, dash_model_drift TO mbats_dashboard;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(VIEWS)
    op.execute(GRANTS)
