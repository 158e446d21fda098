"""What dashboards read: a line for each run, and each run's equity in few enough points to draw a thousand of them.

A run on minutes has hundreds of thousands of points of equity. The database thins them once, in the transaction that records
the run, and nobody can forget to. Each kept point has the NAV at the end of its part and the deepest drawdown within it,
so that the curve's lowest point is the run's maximum drawdown.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

POINTS = 250

CURVE = f"""
CREATE TABLE equity_curve (
    run_id    bigint NOT NULL REFERENCES run,
    time      timestamptz NOT NULL,
    nav       double precision NOT NULL,
    drawdown  double precision NOT NULL,
    PRIMARY KEY (run_id, time)
);

CREATE FUNCTION thinned_equity(of_run bigint) RETURNS TABLE (ends timestamptz, nav double precision, drawdown double precision)
LANGUAGE sql STABLE SET search_path = pg_catalog, public AS $$
    SELECT max(point.time), (array_agg(point.nav ORDER BY point.time DESC))[1],
           max(CASE WHEN point.peak > 0 THEN 1 - point.nav / point.peak ELSE 0 END)
    FROM (
        SELECT equity.time, equity.nav, ntile({POINTS}) OVER w AS part,
               greatest(max(equity.nav) OVER w, run.starting_cash::double precision) AS peak
        FROM equity JOIN run ON run.id = equity.run_id
        WHERE equity.run_id = of_run
        WINDOW w AS (ORDER BY equity.time ROWS UNBOUNDED PRECEDING)
    ) point
    GROUP BY point.part
$$;

CREATE FUNCTION keep_equity_curve() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    INSERT INTO equity_curve SELECT NEW.run_id, kept.* FROM thinned_equity(NEW.run_id) kept ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION thinned_equity(bigint), keep_equity_curve() FROM PUBLIC;

-- Deferred, so that it sees all of the run in whichever order it is written.
CREATE CONSTRAINT TRIGGER performance_keeps_equity_curve AFTER INSERT ON performance
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION keep_equity_curve();

INSERT INTO equity_curve SELECT performance.run_id, kept.* FROM performance, thinned_equity(performance.run_id) kept;
"""

# Money is a double here: it is shown, and booked elsewhere.
VIEWS = """
CREATE VIEW dash_runs AS
SELECT run.id                                                            AS run_id,
       format('#%s %s %s', run.id, run.strategy, run.granularity)        AS run,
       run.recorded_at,
       run.mode,
       run.strategy,
       array_to_string(run.symbols, ', ')                                AS symbols,
       run.granularity,
       (SELECT string_agg(format('%s=%s', key, value), ', ' ORDER BY key)
        FROM jsonb_each_text(run.parameters))                            AS parameters,
       run.period_start,
       run.period_end,
       format('%s to %s', to_char(run.period_start AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
              to_char(run.period_end AT TIME ZONE 'UTC', 'YYYY-MM-DD'))  AS period,
       run.account_currency,
       run.starting_cash::double precision                               AS starting_cash,
       performance.ending_nav::double precision                          AS ending_nav,
       performance.trades,
       performance.won,
       performance.net_pnl::double precision                             AS net_pnl,
       performance.total_return,
       performance.annual_return,
       performance.sharpe,
       performance.sortino,
       performance.max_drawdown,
       performance.max_drawdown_days,
       performance.profit_factor,
       performance.exposure,
       performance.spread_cost::double precision                         AS spread_cost,
       performance.slippage_cost::double precision                       AS slippage_cost,
       (-performance.financing)::double precision                        AS financing_cost,
       (performance.spread_cost + performance.slippage_cost
        - performance.financing)::double precision                       AS costs,
       CASE WHEN run.in_sample THEN 'in sample' WHEN NOT run.in_sample THEN 'out of sample'
            WHEN run.model_version IS NULL THEN 'no model' ELSE 'unknown' END AS sample,
       run.model_version,
       run.data_source,
       run.code_version,
       array_to_string(run.warnings, ' ')                                AS warnings
FROM run JOIN performance ON performance.run_id = run.id;

CREATE VIEW dash_equity AS
SELECT run.id                                                            AS run_id,
       format('#%s %s %s', run.id, run.strategy, run.granularity)        AS run,
       run.recorded_at,
       run.mode,
       run.strategy,
       array_to_string(run.symbols, ', ')                                AS symbols,
       run.granularity,
       run.account_currency,
       equity_curve.time,
       equity_curve.nav,
       equity_curve.nav / nullif(run.starting_cash, 0)::double precision - 1 AS growth,
       equity_curve.drawdown
FROM run JOIN equity_curve ON equity_curve.run_id = run.id;
"""

GRANTS = """
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mbats_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO mbats_reader;
GRANT USAGE ON SCHEMA public TO mbats_dashboard;
GRANT SELECT ON dash_runs, dash_equity TO mbats_dashboard;
"""


def upgrade() -> None:
    op.execute(CURVE)
    op.execute(VIEWS)
    op.execute(GRANTS)
