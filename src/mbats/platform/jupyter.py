"""JupyterLab in the main environment, so that a notebook imports `mbats` and finds the platform that it belongs to."""

from __future__ import annotations

import json
import re
import sys

from mbats.errors import PlatformError
from mbats.platform.files import private_folder, write_private
from mbats.platform.ports import PortNeed
from mbats.platform.program import Program
from mbats.platform.service import LOOPBACK, Service, ask, plain_environment, stamp
from mbats.settings import Settings

# What its pages do of their own accord, which the server's configuration cannot say.
PAGES = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
PAGE_CONFIG = re.compile(rb'<script id="jupyter-config-data" type="application/json">(.*?)</script>', re.DOTALL)


def jupyter(settings: Settings) -> Service:
    """JupyterLab, opened by a token. It runs what it is told to run, as the user who started it."""
    return Service(
        name="jupyter",
        title="JupyterLab",
        address=settings.jupyter_url,
        here=settings.jupyter_host in LOOPBACK,
        ports=(PortNeed("jupyter_port", "JupyterLab"),),
        program=lambda: _program(settings),
        check=lambda: _version(settings),
    )


def _version(settings: Settings) -> str:
    token = settings.required_secret("jupyter_token").get_secret_value()
    page = ask(settings.jupyter_url, "/lab", headers={"Authorization": f"token {token}"})
    found = PAGE_CONFIG.search(page)
    if found is None:
        raise PlatformError(f"{settings.jupyter_url}/lab answers with a page that is not JupyterLab's.")
    return str(json.loads(found.group(1))["appVersion"])


def _program(settings: Settings) -> Program:
    config = settings.root / "notebooks" / "jupyter_server_config.py"
    data = private_folder(settings.home / "jupyter")
    write_private(private_folder(data / "config" / "labconfig") / "default_setting_overrides.json", json.dumps(PAGES))
    return Program(
        name="jupyter",
        command=[sys.executable, "-P", "-m", "jupyterlab", "--config", str(config)],
        directory=data,
        environment=plain_environment(settings)
        | {
            # Nothing of what the user's own Jupyter is set to, or holds, is read or changed.
            "JUPYTER_CONFIG_DIR": str(data / "config"),
            "JUPYTER_DATA_DIR": str(data / "data"),
            "JUPYTER_RUNTIME_DIR": str(data / "runtime"),
            "IPYTHONDIR": str(data / "ipython"),
            "MBATS_LISTEN": settings.listen,
            "MBATS_JUPYTER_PORT": str(settings.jupyter_port),
            "MBATS_SECRETS_DIR": str(settings.secrets_dir),
            "MBATS_CONFIG_FILES": stamp(settings.secrets_dir / "mbats_jupyter_token", config),
        },
        stop_as_group=True,
    )


__all__ = ["jupyter"]
