"""How gunicorn serves Superset: one process with threads, since what it waits for is PostgreSQL."""

import ctypes
import signal
import sys

from environment import load_environment

_place = load_environment()

wsgi_app = "superset.app:create_app()"
bind = f"{_place.listen}:{_place.port}"
workers = 1
worker_class = "gthread"
threads = 8
timeout = 120
graceful_timeout = 10
keepalive = 5
worker_tmp_dir = str(_place.data)
control_socket_disable = True  # it would lie in the home folder of whoever started it, where another service's lies too
accesslog = None
errorlog = "-"
loglevel = "warning"


def post_fork(server, worker):
    """A worker dies with its master, also when that is killed, so that the port is free for the next one."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
