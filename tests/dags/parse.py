"""Parses the DAGs of a folder with Airflow in memory already, and prints as JSON what else that touches."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from airflow import sdk

# What belongs to Python and Airflow: Airflow imports much of itself only when it is used.
LIBRARIES = tuple({os.path.realpath(folder) for folder in (sys.prefix, sys.base_prefix, *sys.path[1:])} | {"/proc", "/dev"})
TOUCHING = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "sqlite3.", "urllib.")
touched: list[str] = []


def notice(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith(LIBRARIES):
            touched.append(path)
    elif event.startswith(TOUCHING) and event != "socket.gethostname":
        touched.append(event)


def main() -> None:
    for name in ("dag", "task", "Param", "MultipleCronTriggerTimetable", "CronTriggerTimetable", "RetryPolicy"):
        getattr(sdk, name)
    files = sorted(Path(sys.argv[1]).glob("*.py"))
    sys.dont_write_bytecode = True
    sys.addaudithook(notice)
    for file in files:
        spec = spec_from_file_location(file.stem, file)
        assert spec is not None and spec.loader is not None
        spec.loader.exec_module(module_from_spec(spec))
    seen = list(touched)
    ours = sorted(name for name in sys.modules if name.partition(".")[0] in ("mbats", "pandas", "sqlalchemy_utils", "boto3"))
    print(json.dumps({"parsed": [file.name for file in files], "touched": seen, "modules": ours}))


main()
