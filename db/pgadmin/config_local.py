"""pgAdmin's settings where they differ from its own; pgAdmin imports this file because its folder is in PYTHONPATH.

Its secret key is no setting: it keeps one in its database, where `prepare.py` puts ours.
"""

from environment import load_environment as _load_environment

_place = _load_environment()

SERVER_MODE = True
DATA_DIR = str(_place.data)
SQLITE_PATH = str(_place.database_file)
STORAGE_DIR = str(_place.storage)
SESSION_DB_PATH = str(_place.data / "sessions")
LOG_FILE = str(_place.data / "pgadmin4.log")
LOG_ROTATION_SIZE = 10
LOG_ROTATION_MAX_LOG_FILES = 5

# Nothing is asked of the internet, and nothing looked for on this machine.
UPGRADE_CHECK_ENABLED = False
SHOW_GRAVATAR_IMAGE = False
LLM_ENABLED = False
AUTO_DISCOVER_SERVERS = False
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'self'; connect-src 'self'; font-src 'self' data:; form-action 'self'; frame-ancestors 'self'; "
    "img-src 'self' blob: data:; object-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
    "worker-src 'self' blob:"
)

# Who logs in has given his password, and the server's is in a file: a second one for a vault would guard nothing.
MASTER_PASSWORD_REQUIRED = False
USE_OS_SECRET_STORAGE = False
ENABLE_PSQL = False
MAX_LOGIN_ATTEMPTS = 10  # then the user is locked, until the next `mbats up`
# A browser sends a cookie of 127.0.0.1 to every port of it: without a name of its own, a login here would end one elsewhere.
SESSION_COOKIE_NAME = f"mbats_pgadmin_{_place.port}"
# It is reached without a proxy, so what a client says of one is not believed.
PROXY_X_FOR_COUNT = PROXY_X_PROTO_COUNT = PROXY_X_PORT_COUNT = 0
