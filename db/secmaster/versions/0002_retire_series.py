"""One more way for a bar to leave: with its whole series, into the revisions, to make room for another vendor's bars.

The login that downloads cannot delete a bar. It may call this function, which deletes nothing that it has not kept.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

VALUES = "bid_open, bid_high, bid_low, bid_close, ask_open, ask_high, ask_low, ask_close, volume"

RETIRE_SERIES = f"""
CREATE FUNCTION retire_series(of_symbol text, of_granularity text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    WITH retired AS (
        DELETE FROM bar
        WHERE symbol_id = (SELECT id FROM symbol WHERE name = of_symbol) AND granularity = of_granularity
        RETURNING *
    ), kept AS (
        INSERT INTO bar_revision (symbol_id, granularity, time, loaded_at, replaced_at, data_vendor_id, {VALUES})
        SELECT symbol_id, granularity, time, loaded_at, statement_timestamp(), data_vendor_id, {VALUES} FROM retired
        RETURNING 1
    )
    SELECT count(*) FROM kept
$$;
REVOKE ALL ON FUNCTION retire_series(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION retire_series(text, text) TO mbats_ingest;
"""


def upgrade() -> None:
    op.execute(RETIRE_SERIES)
