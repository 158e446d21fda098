"""Keeps the bars of interested_tickers.xlsx up to date: daily ones after each New York close, minutes while the market is open.

A run downloads what is missing by the calendar, so that the next one makes good what one has missed. A run by hand may name
symbols, a granularity and a period instead.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import MultipleCronTriggerTimetable, Param, RetryDecision, RetryPolicy, dag, task

# On New York's clock, so that it moves with daylight saving. The clocks change on Sundays at 2:00, when nothing runs.
MARKET_HOURS = MultipleCronTriggerTimetable(
    "*/5 17-23 * * 0-4",  # from Sunday 17:00; at 17:05, the bars of the day that has just ended
    "*/5 0-16 * * 1-5",
    "5,20,50 17 * * 5",  # the week's last bars, and twice more should that fail
    timezone="America/New_York",
)
# Moments without a zone are UTC.
MOMENT = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?)?$"
LENGTHS = ("S5", "S10", "S15", "S30", "M1", "M2", "M4", "M5", "M10", "M15", "M30")
LENGTHS += ("H1", "H2", "H3", "H4", "H6", "H8", "H12", "D", "W", "M")


class OnlyIfPassing(RetryPolicy):
    """Tries again unless the error says of itself that it will not pass, as that of a misspelt symbol does."""

    def evaluate(self, exception, try_number, max_tries, context=None):
        return RetryDecision.default() if getattr(exception, "passing", True) else RetryDecision.fail(str(exception))


@dag(
    schedule=MARKET_HOURS,
    catchup=False,
    max_active_runs=1,  # while one runs, no other is made; a single one follows it, whatever was missed
    is_paused_upon_creation=False,
    default_args={
        "retries": 3,
        "retry_delay": timedelta(seconds=20),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=5),
        "retry_policy": OnlyIfPassing(),
    },
    params={
        "symbols": Param(
            None,
            type=["null", "array"],
            items={"type": "string", "pattern": "^[A-Za-z0-9]+[_/][A-Za-z0-9]+$"},
            title="Symbols",
            description="One a line, such as EUR_USD. Empty: those of interested_tickers.xlsx.",
        ),
        "granularity": Param(
            None,
            type=["null", "string"],
            enum=[None, *LENGTHS],
            title="Granularity",
            description="The length of a bar. Empty: as the workbook says; D for symbols that are named here.",
        ),
        "start": Param(
            None,
            type=["null", "string"],
            pattern=MOMENT,
            title="Start",
            description="The first moment, UTC: 2016-01-31 or 2016-01-31T13:00. Empty: as the workbook says.",
        ),
        "end": Param(
            None,
            type=["null", "string"],
            pattern=MOMENT,
            title="End",
            description="The moment, UTC, before which the last bar starts. Empty: now. With all fields empty: what is due.",
        ),
    },
    tags=["mbats", "ingest"],
    doc_md=__doc__,
)
def download_market_data():
    @task
    def plan(params=None, ti=None):
        from mbats.ingest.schedule import plan_downloads

        planned = plan_downloads(**params)
        ti.xcom_push("problems", planned["problems"])
        return planned["requests"]

    @task(
        map_index_template="{{ task.op_kwargs['request']['name'] }}",
        max_active_tis_per_dagrun=4,
        execution_timeout=timedelta(hours=3),  # of ten years of minutes; what was stored until then stays
    )
    def download(request):
        from mbats.ingest.schedule import download_series

        return download_series(request)

    @task(trigger_rule="all_done", retries=0)
    def report(requests, outcomes, ti=None):
        from mbats.ingest.schedule import report_downloads

        return report_downloads(requests, outcomes, problems=ti.xcom_pull(task_ids="plan", key="problems"))

    requests = plan()
    report(requests, download.expand(request=requests))


download_market_data()
