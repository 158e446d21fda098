"""How a service is started and stopped, and how supervisord is told."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mbats.errors import ConfigError
from mbats.platform.launch import launch_command

FOR_EVER = 1_000_000  # tries; supervisord has no word for it
LOG_BYTES = 10_000_000
LOG_FILES = 5
COMMENT_MARKS = ("\n", " ;", " #")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How one service is started and stopped. `environment` is visible to whoever may see the process: no secrets.

    `die_with_parent` is the signal that the kernel sends it when the supervisor dies; None for a command that sees to that
    itself. With `stop_as_group`, its children are sent the stop signal too.
    """

    name: str
    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: int = 10
    stop_as_group: bool = False
    die_with_parent: signal.Signals | None = signal.SIGTERM


def supervisord_conf(programs: Sequence[Program], *, run: Path, logs: Path, socket: Path, pid_file: Path) -> str:
    """The text of supervisord's configuration file: the programs are started in their order and stopped in the reverse.

    Raises ConfigError when a value cannot be written in its language.
    """
    sections: dict[str, dict[str, object]] = {
        "unix_http_server": {"file": socket, "chmod": "0700"},
        "rpcinterface:supervisor": {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        "supervisord": {
            "pidfile": pid_file,
            "logfile": logs / "supervisord.log",
            "logfile_maxbytes": LOG_BYTES,
            "logfile_backups": LOG_FILES,
            "directory": run,
            "childlogdir": logs,
            "umask": "077",
            # Says to supervisord that it runs as root because root started it, and not by an oversight.
            **({"user": "root"} if os.geteuid() == 0 else {}),
        },
    }
    sections |= {f"program:{program.name}": _program(program, logs, order) for order, program in enumerate(programs)}
    lines = ["; Written by ./starter_script.sh at every start: a change made here is lost."]
    for title, values in sections.items():
        lines += ["", f"[{title}]", *(f"{key}={_escaped(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _program(program: Program, logs: Path, order: int) -> dict[str, object]:
    command = program.command
    if program.die_with_parent is not None:
        command = launch_command(command, die_with_parent=program.die_with_parent)
    return {
        "command": shlex.join(command),
        "directory": program.directory,
        "environment": ",".join(f'{name}="{require_plain(value)}"' for name, value in sorted(program.environment.items())),
        "umask": "077",
        "priority": order,
        "autostart": "false",  # `up` starts each when what it needs is well
        "autorestart": "true",
        "startsecs": 2,
        "startretries": FOR_EVER,
        "stopsignal": program.stop_signal.name.removeprefix("SIG"),
        "stopwaitsecs": program.stop_seconds,
        "stopasgroup": "true" if program.stop_as_group else "false",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": require_plain(logs / f"{program.name}.log"),
        "stdout_logfile_maxbytes": LOG_BYTES,
        "stdout_logfile_backups": LOG_FILES,
    }


def _escaped(value: object) -> str:
    text = str(value)
    if any(mark in text for mark in COMMENT_MARKS):
        raise _unwritable(text)
    return text.replace("%", "%%")


def require_plain(value: object) -> str:
    """The value as text. Raises ConfigError when supervisord could not read it back in every place of its configuration.

    Environments and log files are expanded twice and not unquoted, so nothing can be escaped in them.
    """
    text = str(value)
    if any(mark in text for mark in (*COMMENT_MARKS, '"', "%")):
        raise _unwritable(text)
    return text


def _unwritable(text: str) -> ConfigError:
    return ConfigError(
        f"supervisord cannot read {text!r}: a path or setting must hold no line break, ' ;', ' #', '%' or double quote. "
        "Nothing was started. Choose another folder with MBATS_HOME, or another value."
    )


__all__ = ["Program", "require_plain", "supervisord_conf"]
