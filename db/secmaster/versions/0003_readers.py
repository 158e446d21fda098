"""What people and dashboards may read: the reader everything, the dashboards views made for them, of which there are none yet.

A migration that makes a view `dash_…` grants it to mbats_dashboard itself.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

GRANTS = """
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mbats_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO mbats_reader;
GRANT USAGE ON SCHEMA public TO mbats_dashboard;
"""


def upgrade() -> None:
    op.execute(GRANTS)
