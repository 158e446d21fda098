"""Trains challengers as mlflow/retrain.toml says, puts each before the gate, and watches what the champions see for drift.

It looks every evening at what is due by the newest version of each model, so that the next run makes good what one has missed.
A run by hand may name models; these are trained whether they are due or not. No version becomes champion but by the gate, and
only where retrain.toml says `rule = "promote"`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag, task


@dag(
    # After the backup of the night; on Friday the week has ended.
    schedule=CronTriggerTimetable("0 20 * * *", timezone="America/New_York"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=10)},
    params={
        "models": Param(
            None,
            type=["null", "array"],
            items={"type": "string", "pattern": "^[A-Za-z0-9_]+$"},
            title="Models",
            description="Sections of mlflow/retrain.toml, one a line, to be trained now. Empty: those that are due.",
        ),
    },
    tags=["mbats", "models"],
    doc_md=__doc__,
)
def retrain_models():
    @task
    def plan(params=None):
        from mbats.platform.retraining import plan_retraining

        return plan_retraining(params["models"])

    @task(
        map_index_template="{{ task.op_kwargs['model'] }}",
        max_active_tis_per_dagrun=1,  # one training has the machine's memory for itself
        execution_timeout=timedelta(hours=6),
    )
    def retrain(model):
        from mbats.platform.retraining import retrain_model

        return retrain_model(model)

    @task(trigger_rule="all_done", execution_timeout=timedelta(hours=1))
    def watch():
        from mbats.platform.retraining import watch_models

        return watch_models()

    retrain.expand(model=plan()) >> watch()


retrain_models()
