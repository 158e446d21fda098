"""Start a command that dies with its parent: `python launch.py [--die-with-parent SIG] [--user UID:GID] -- cmd…`.

A supervisor that is killed with -9 can tell nobody; the kernel can, and sends the signal that was asked for here.
Linux alone can do that (PR_SET_PDEATHSIG); elsewhere the command is started without. The standard library is all
that is used, so that the file also runs without the virtual environment, and starts in about 20 ms.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def launch_command(
    command: Sequence[str], *, die_with_parent: signal.Signals | None = signal.SIGTERM, user: tuple[int, int] | None = None
) -> list[str]:
    """The argv that starts `command` through this file. `user` is the uid and gid to become, for root alone."""
    argv = [sys.executable, "-I", "-S", __file__]
    if die_with_parent is not None:
        argv += ["--die-with-parent", die_with_parent.name]
    if user is not None:
        argv += ["--user", f"{user[0]}:{user[1]}"]
    return [*argv, "--", *command]


def main(arguments: Sequence[str]) -> None:
    """Become the command. Leaves with 127 when it cannot be executed, and with 1 when the parent is already gone."""
    # Supervisord sets the variable and leads the session it made, which tells it from one who adopted its orphan before
    # the next line could ask who the parent is. A launcher further down has another parent, and must not see the variable.
    supervised = os.environ.pop("SUPERVISOR_ENABLED", None) is not None
    parent = os.getsid(0) if supervised else os.getppid()
    options = _parse(arguments)
    if options.user is not None:
        uid, gid = (int(part) for part in options.user.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        os.chdir("/")  # the folder that root stood in may be closed to the new user
    if options.die_with_parent is not None:
        # After the change of user, which clears the request; and before exec, which keeps it.
        _signal_at_parents_death(signal.Signals[options.die_with_parent])
        if os.getppid() != parent:
            sys.exit(f"launch: the parent of {options.command[0]} ended before it could be started.")
    try:
        os.execvp(options.command[0], options.command)
    except OSError as error:
        sys.stderr.write(f"launch: {options.command[0]} cannot be executed: {error.strerror}.\n")
        sys.exit(127)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch", description="Start a command that dies with its parent.")
    parser.add_argument("--die-with-parent", metavar="SIG", choices=[item.name for item in signal.Signals])
    parser.add_argument("--user", metavar="UID:GID")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def _signal_at_parents_death(number: signal.Signals) -> None:
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        sys.exit(f"launch: the kernel refused PR_SET_PDEATHSIG: {os.strerror(ctypes.get_errno())}.")


if __name__ == "__main__":
    main(sys.argv[1:])
