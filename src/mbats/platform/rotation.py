"""Gives a secret a new value. The services learn of it at the next start, which is the one path for every change."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import SecretStr

from mbats.database import admin_connection, wait_for_server
from mbats.errors import ConfigError, PlatformError
from mbats.logins import set_admin_password
from mbats.platform.files import private_folder, write_private
from mbats.platform.secret_files import MADE, require_known, services_that_read
from mbats.platform.service import Say
from mbats.settings import Settings, chosen_by_user

ADMIN = "postgres_admin_password"


def rotate_secret(settings: Settings, name: str, say: Say) -> None:
    """Write a new random value to the secret's file. Raises UnknownSecret, and ConfigError when the user sets it elsewhere.

    The password of PostgreSQL's admin is changed in the running server first: nothing else opens that door.
    """
    secret = require_known(name)
    if secret in chosen_by_user():
        raise ConfigError(
            f"MBATS_{secret.upper()} is set in the environment or in .env, which is stronger than its file. Nothing was changed. "
            "Change it there, and run ./starter_script.sh."
        )
    value = MADE[secret]()
    file = private_folder(settings.secrets_dir) / f"mbats_{secret}"
    if secret == ADMIN:
        waiting = _waiting(settings)  # a kill between the next steps leaves both values to be tried
        write_private(waiting, value)
        set_admin_password(settings, settings.model_copy(update={secret: SecretStr(value)}))
        waiting.replace(file)
    else:
        write_private(file, value)
    readers = ", ".join(services_that_read(secret)) or "commands alone"
    say(
        f"{file}: new value, read by {readers}. ./starter_script.sh passes it on; services have the old one till then, and "
        "tasks that begin meanwhile may be refused."
    )


def finish_rotation(settings: Settings, say: Say, *, timeout: float) -> None:
    """End a change of the admin's password that was killed in the middle: keep the value that the server knows.

    The server has just been started. Raises PlatformError when it does not answer, or to neither of the two.
    """
    waiting = _waiting(settings)
    if not waiting.is_file():
        return
    new = settings.model_copy(update={ADMIN: SecretStr(waiting.read_text())})
    deadline = time.monotonic() + timeout
    while True:
        for tried in (new, settings):
            try:
                admin_connection(tried).close()
            except PlatformError:
                continue
            if tried is new:
                waiting.replace(settings.secrets_dir / f"mbats_{ADMIN}")
            waiting.unlink(missing_ok=True)
            say(f"PostgreSQL: the change of its admin's password was {'finished' if tried is new else 'taken back'}.")
            return
        if time.monotonic() > deadline:
            wait_for_server(settings, timeout=0)
        time.sleep(0.2)


def _waiting(settings: Settings) -> Path:
    return settings.secrets_dir / f"mbats_{ADMIN}.new"


__all__ = ["finish_rotation", "rotate_secret"]
