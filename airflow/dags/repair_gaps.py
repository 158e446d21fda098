"""Asks the vendor once more for bars that are missing in the middle of what is stored, every evening after the day's bars are in.

What the vendor does not have either is asked for again after a week. `mbats coverage --gaps` lists what is missing.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task


@dag(
    schedule=CronTriggerTimetable("0 19 * * *", timezone="America/New_York"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["mbats", "ingest"],
    doc_md=__doc__,
)
def repair_gaps():
    @task
    def plan():
        from mbats.ingest.repair import plan_repairs

        return plan_repairs()

    @task(
        map_index_template="{{ task.op_kwargs['planned']['name'] }}",
        max_active_tis_per_dagrun=2,
        execution_timeout=timedelta(hours=1),
    )
    def repair(planned):
        from mbats.ingest.repair import repair_series

        return repair_series(planned)

    @task(trigger_rule="all_done", retries=0)
    def report(planned, outcomes):
        from mbats.ingest.repair import report_repairs

        return report_repairs(planned, outcomes)

    planned = plan()
    report(planned, repair.expand(planned=planned))


repair_gaps()
