"""Dumps every database of the platform to the S3 store, and deletes the backups that are too old to be kept.

`mbats backups` lists them, and `mbats restore` brings one back.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task


@dag(
    # The day's bars are in, and Tokyo has not begun.
    schedule=CronTriggerTimetable("30 18 * * *", timezone="America/New_York"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
    tags=["mbats", "backup"],
    doc_md=__doc__,
)
def backup():
    @task(execution_timeout=timedelta(hours=6))
    def make():
        from mbats.platform.backup import make_backup

        return make_backup().name

    make()


backup()
