"""MLflow's tracking server in one process: its tables brought up to date, its admin's password set, then served.

`mlflow server` starts a second process, which outlives a `kill -9` of the first and keeps the port, and takes the key of its
web sessions from the environment, where every process of the user can read it. Here is one process, which keeps the key
to itself.

Run as `python -P mlflow/serve.py …`, as `mbats.platform.mlflow` does. The file that MLFLOW_AUTH_CONFIG_PATH names holds MLflow's
own section `[mlflow]` and, in `[mbats]`, `secret_key`. Other settings are MLflow's variables; the arguments are named as those
of `mlflow server`.
"""

from __future__ import annotations

import argparse
import configparser
import json
import logging
import os
import sys
from pathlib import Path

import uvicorn  # before MLflow, which checks the hosts of requests only where it sees that it is served

# What a browser that has never been here finds chosen: the pages for who trains models, which show the registry, where otherwise
# those for who writes prompts would be, which do not.
CHOSEN = {
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,
    "mlflow.settings.telemetry.enabled_v1": False,
    "mlflow.telemetry.info.alert.dismissed_v1": True,
}
HIDDEN = "[data-assistant-ui] { display: none !important }"
STOP_SECONDS = 5  # for requests that are under way; more than that a client must repeat

log = logging.getLogger("mlflow.mbats")


def main() -> None:
    """Serve until a signal. Leaves with an error when PostgreSQL cannot be reached, and is started again."""
    options = _parse()
    _tell_mlflow(options)
    _bring_tables_up_to_date(options.backend_store_uri)
    _keep_clients_from_the_store()  # before the application is imported, which keeps what it finds
    _send_the_assistant_home()
    _open_at_the_models()
    uvicorn.run(
        _application(_secret_key()),
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serve", description="Serve MLflow in one process.")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backend-store-uri", required=True)
    parser.add_argument("--artifacts-destination", required=True)
    return parser.parse_args()


def _tell_mlflow(options: argparse.Namespace) -> None:
    """What `mlflow server` would put into the environment of the process that it starts."""
    from mlflow.environment_variables import _MLFLOW_SGI_NAME
    from mlflow.server import constants

    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: options.backend_store_uri,
        constants.REGISTRY_STORE_URI_ENV_VAR: options.backend_store_uri,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",  # clients go through this server
        constants.ARTIFACTS_DESTINATION_ENV_VAR: options.artifacts_destination,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        _MLFLOW_SGI_NAME.name: "uvicorn",
    }


def _bring_tables_up_to_date(uri: str) -> None:
    """Make the tables, or migrate those of an older version, on which MLflow by itself refuses to start."""
    from mlflow.server.handlers import initialize_backend_stores
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine_with_retry(uri)
    try:
        found = utils._get_schema_version(engine)
        if found is not None and found != utils._get_latest_schema_revision():
            log.info("Migrating MLflow's tables from %s.", found)
            utils._upgrade_db(engine)
    finally:
        engine.dispose()
    initialize_backend_stores(uri, uri, "mlflow-artifacts:/")


def _keep_clients_from_the_store() -> None:
    """Tell clients that artifacts come and go through this server, of any size.

    MLflow sends them to the S3 store with signed addresses, under the name by which the server knows it; a client on the
    other side of the containers' network does not, and waits for minutes.
    """
    from mlflow.server import handlers
    from mlflow.utils import server_info

    of_mlflow = handlers.build_server_info_payload
    through_here = {
        server_info.SERVER_INFO_MULTIPART_UPLOADS_ENABLED: False,
        server_info.SERVER_INFO_MULTIPART_DOWNLOADS_ENABLED: False,
    }
    handlers.build_server_info_payload = lambda: of_mlflow() | through_here


def _send_the_assistant_home() -> None:
    """Leave out MLflow's assistant, which opens over the page unasked and runs commands on the server's machine."""
    from fastapi import APIRouter
    from mlflow.server import fastapi_app

    fastapi_app.assistant_router = APIRouter()


def _open_at_the_models() -> None:
    from flask import Response
    from mlflow.server import app

    script = f"for (const [k, v] of Object.entries({json.dumps(CHOSEN)})) localStorage[k] ??= JSON.stringify(v)"
    ours = f"<head><script>{script}</script><style>{HIDDEN}</style>"
    page = Path(str(app.static_folder), "index.html").read_text().replace("<head>", ours, 1)
    app.view_functions["serve"] = lambda: Response(page, mimetype="text/html")


def _application(secret_key: str) -> object:
    """The server with its login, and with the admin's password as the configuration has it."""
    from mlflow.environment_variables import MLFLOW_FLASK_SERVER_SECRET_KEY
    from mlflow.server import auth

    # MLflow takes it from nowhere else. It stands there until the next line has read it, and no process is started meanwhile.
    os.environ[MLFLOW_FLASK_SERVER_SECRET_KEY.name] = secret_key
    try:
        application = auth.create_app()
    finally:
        del os.environ[MLFLOW_FLASK_SERVER_SECRET_KEY.name]
    # MLflow sets the password when it makes the user, and never again.
    user, password = auth.auth_config.admin_username, auth.auth_config.admin_password
    if not auth.store.authenticate_user(user, password):
        auth.store.update_user(user, password=password, is_admin=True)
        log.info("The password of '%s' was set anew.", user)
    return application


def _secret_key() -> str:
    file = Path(os.environ["MLFLOW_AUTH_CONFIG_PATH"])
    config = configparser.ConfigParser()
    config.read(file)
    key = config.get("mbats", "secret_key", fallback="")
    if not key:
        sys.exit(f"serve: {file} holds no secret_key in its section [mbats]. MLflow was not started.")
    return key


if __name__ == "__main__":
    main()
