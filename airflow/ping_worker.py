"""Ask the Celery worker of this container whether it does its work. Leaves with 0, or with 1 and the reason.

It is asked over Redis, as those are that give it tasks: a worker that has lost Redis, or that hangs, does not answer.
"""

from __future__ import annotations

import configparser
import os
import socket
import sys

TIMEOUT = 5.0


def main() -> None:
    """Ask as Airflow's configuration says, which holds Redis's password and is private."""
    from celery import Celery

    config = configparser.RawConfigParser()
    config.read(f"{os.environ['MBATS_HOME']}/airflow/airflow.cfg")
    worker = f"celery@{socket.gethostname()}"
    broker = config["celery"]["broker_url"].replace("%%", "%")
    with Celery(broker=broker).connection_for_write(connect_timeout=TIMEOUT) as connection:
        answers = Celery(broker=broker).control.ping([worker], timeout=TIMEOUT, connection=connection)
    sys.exit(0 if answers else f"{worker} does not answer within {TIMEOUT:g} s")


if __name__ == "__main__":
    main()
