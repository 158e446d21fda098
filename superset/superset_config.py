"""Superset's settings where they differ from its own; Superset imports this file because its folder is in PYTHONPATH."""

from __future__ import annotations

import logging

from environment import CONNECT, load_environment
from flask import Blueprint, Flask, request, session

_place = load_environment()
_place.use_passwords()

# --- Its own data --------------------------------------------------------------------------------------------------

SQLALCHEMY_DATABASE_URI = _place.metadata_uri
SQLALCHEMY_ENGINE_OPTIONS = {
    "pool_pre_ping": True,  # so that a restart of PostgreSQL costs nobody a request
    "pool_size": 5,
    "max_overflow": 10,
    "connect_args": {**CONNECT, "application_name": "superset"},
}
SECRET_KEY = _place.secret("superset_secret_key")
ALEMBIC_SKIP_LOG_CONFIG = True


def _cache(name: str, seconds: int) -> dict[str, object]:
    # Of what files of another purpose may push out, a dashboard's filters are the least: one folder for each.
    return {
        "CACHE_TYPE": "FileSystemCache",
        "CACHE_DIR": str(_place.data / "cache" / name),
        "CACHE_DEFAULT_TIMEOUT": seconds,
        "CACHE_THRESHOLD": 5_000,
    }


CACHE_CONFIG = _cache("metadata", 300)
DATA_CACHE_CONFIG = _cache("data", 30)  # a run shows half a minute after it was recorded
FILTER_STATE_CACHE_CONFIG = _cache("filters", 90 * 86_400)
EXPLORE_FORM_DATA_CACHE_CONFIG = _cache("explore", 7 * 86_400)

# --- Who may do what -----------------------------------------------------------------------------------------------

AUTH_USER_REGISTRATION = False
PUBLIC_ROLE_LIKE = None  # who is not logged in sees the login page
WTF_CSRF_ENABLED = True
FAB_API_SWAGGER_UI = False

# Attempts to log in, by page and by API, counted for each address. One worker serves, so its memory knows them all.
RATELIMIT_ENABLED = True
RATELIMIT_APPLICATION = None  # a dashboard asks for more than 50 things in its first second
RATELIMIT_STORAGE_URI = "memory://"
AUTH_RATE_LIMITED = True
AUTH_RATE_LIMIT = "20 per minute"

# A browser sends a cookie of 127.0.0.1 to every port of it: without a name of its own, a login here would end one elsewhere.
SESSION_COOKIE_NAME = f"mbats_superset_{_place.port}"
REMEMBER_COOKIE_NAME = f"mbats_superset_remember_{_place.port}"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = False  # it is served as plain HTTP, on the loopback interface

# --- What the browser may fetch: this server's files, nothing of the internet --------------------------------------

TALISMAN_ENABLED = True
TALISMAN_CONFIG = {
    "content_security_policy": {
        "default-src": ["'self'"],
        "base-uri": ["'self'"],
        "connect-src": ["'self'"],
        "font-src": ["'self'", "data:"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],  # without Superset's own exception for a counter of visits
        "object-src": ["'none'"],
        "script-src": ["'self'", "'strict-dynamic'"],
        "style-src": ["'self'", "'unsafe-inline'"],
        "worker-src": ["'self'", "blob:"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,
    "session_cookie_secure": False,
    "referrer_policy": "same-origin",
}
THEME_FONT_URL_ALLOWED_DOMAINS: list[str] = []
ENABLE_CORS = False  # it would let a map server's pages in

# --- How it works --------------------------------------------------------------------------------------------------

ROW_LIMIT = 10_000
SQL_MAX_ROW = 100_000
SUPERSET_WEBSERVER_TIMEOUT = 60
SQLLAB_TIMEOUT = 50
CELERY_CONFIG = None  # queries are answered while the browser waits; nothing runs in the background
LOG_LEVEL = logging.WARNING
# With each page it misses a picture that is not part of its wheel, and does without.
logging.getLogger("superset.views.base").addFilter(lambda record: "default spinner" not in str(record.msg))
APP_NAME = "MBATS"
LOGO_TARGET_PATH = "/superset/welcome/"
FEATURE_FLAGS = {"DASHBOARD_RBAC": False, "ALERT_REPORTS": False, "THUMBNAILS": False}

# --- Whether it does its work --------------------------------------------------------------------------------------

_health = Blueprint("mbats", __name__)


@_health.route("/mbats/health")
def _answer() -> tuple[dict[str, str], int]:
    """The version, when Superset's own database answers; its own `/health` says OK without one."""
    from superset import db
    from superset.utils.version import get_version_metadata

    try:
        db.session.execute("SELECT 1 FROM dashboards LIMIT 1")
    except Exception as error:  # whatever it is, it is no server fault that a traceback would explain
        db.session.rollback()
        return {"error": f"Superset's database does not answer: {type(error).__name__}."}, 503
    return {"version": str(get_version_metadata()["version_string"])}, 200


BLUEPRINTS = [_health]


def FLASK_APP_MUTATOR(app: Flask) -> None:
    """Count attempts to log in by the API as well; Superset counts those by the page alone. Let no note end a login."""
    for view in app.appbuilder.baseviews:
        if type(view).__name__ == "SecurityApi":
            app.appbuilder.sm.limiter.limit(AUTH_RATE_LIMIT, methods=["POST"])(view.blueprint)
    app.before_request(_leave_notes_of_strangers)


def _leave_notes_of_strangers() -> tuple[str, int] | None:
    # The page of the login notes in the log that it is left, while the login is under way. Superset refuses that with a cookie of
    # its own, which may come last and takes the place of the one that says who has logged in. So does asking who this is.
    return ("", 204) if request.path == "/superset/log/" and "_user_id" not in session else None
