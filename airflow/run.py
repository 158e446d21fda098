"""Run one component of Airflow so that a restart of any part loses no task: `python -P airflow/run.py scheduler …`.

The arguments are those of the command `airflow`. Airflow itself leaves three gaps, which are closed here:

- When a component is killed, the processes that it forked go on: idle ones for ever, and a task beside the copy of it that the
  next scheduler starts. Here the kernel ends them with their parent, and the next scheduler runs the task again.
- When PostgreSQL restarts, the scheduler's loop ends, and its process waits for the running tasks and schedules no others.
  Here the loop begins again when the database is back; the tasks never notice.
- A scheduler that is told to stop waits for its tasks without limit, or fails them. Here it drops them at once, and the next one
  runs them again.

A task may therefore run more than once, whatever its `retries` say, and must be written so.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
WORKERS_AND_TASKS = 2  # generations of forked processes that die with their parent; what a task itself starts is its own affair
HUNG_SECONDS = 120  # a scheduler whose loop does not come round for so long is ended by the kernel, and started anew
DATABASE_PAUSE = 1.0


def main() -> None:
    """Become the component. Its name, with the moment of this start, stands in the folder of Airflow."""
    component = sys.argv[1]
    Path(os.environ["AIRFLOW_HOME"], f"{component}.started").touch()
    linux = sys.platform.startswith("linux")
    if linux and component != "celery":  # whose children finish their tasks after the thread that made them has ended
        _let_children_die_with_us()
    if component == "scheduler":
        _mend_the_scheduler(linux)
    sys.argv[0] = "airflow"
    from airflow.__main__ import main as airflow

    airflow()


def _let_children_die_with_us() -> None:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    generation, parent = 0, os.getpid()

    def in_child() -> None:
        nonlocal generation, parent
        generation += 1
        if generation <= WORKERS_AND_TASKS:
            prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:  # it died before the kernel was told
                os._exit(1)
        parent = os.getpid()

    os.register_at_fork(after_in_child=in_child)


def _mend_the_scheduler(linux: bool) -> None:
    from airflow.cli.commands import scheduler_command
    from airflow.jobs.job import Job, JobState, perform_heartbeat
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.utils.session import create_session
    from sqlalchemy import update
    from sqlalchemy.exc import InterfaceError, OperationalError

    class Scheduler(SchedulerJobRunner):
        """Airflow's, which goes on after an outage of the database and stops at once when it is told to."""

        def _execute(self) -> int | None:
            if linux:
                self._bury_the_one_before()
            return super()._execute()

        def _bury_the_one_before(self) -> None:
            # One that was killed looks alive until its heartbeat is 30 s old. This is the only scheduler, and the tasks of the
            # one before have died with it: they can be run again at once.
            with create_session() as session:
                alive = (Job.job_type == self.job_type, Job.state == JobState.RUNNING, Job.id != self.job.id)
                session.execute(update(Job).where(*alive).values(state=JobState.FAILED))

        def _run_scheduler_loop(self) -> None:
            while True:
                try:
                    super()._run_scheduler_loop()
                    return
                except (OperationalError, InterfaceError):
                    self.log.exception(
                        "The database went away; scheduling goes on when it is back. Running tasks are left alone."
                    )
                    self._wait_for_the_database()

        def _wait_for_the_database(self) -> None:
            before = self.job.latest_heartbeat
            while True:
                signal.alarm(HUNG_SECONDS)
                time.sleep(DATABASE_PAUSE)
                # The first thing it does again: one without a heartbeat would take itself for dead, and its tasks for orphans.
                perform_heartbeat(self.job, heartbeat_callback=self.heartbeat_callback, only_if_necessary=False)
                if self.job.latest_heartbeat != before:
                    self.log.info("The database is back.")
                    return

        def _do_scheduling(self, session: object) -> int:
            signal.alarm(HUNG_SECONDS)
            return super()._do_scheduling(session)

        def _exit_gracefully(self, signum: int, frame: object) -> None:
            if os.getpid() == own_pid:
                for executor in self.executors:
                    for worker in getattr(executor, "workers", {}).values():  # LocalExecutor's; those of Celery are not ours
                        worker.kill()
            super()._exit_gracefully(signum, frame)

    own_pid = os.getpid()
    signal.alarm(HUNG_SECONDS)
    scheduler_command.SchedulerJobRunner = Scheduler


if __name__ == "__main__":
    main()
