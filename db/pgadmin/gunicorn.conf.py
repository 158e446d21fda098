"""How gunicorn serves pgAdmin: one process, since it keeps its connections to PostgreSQL in its memory, with threads."""

import ctypes
import importlib.util
import signal
import sys

from environment import load_environment

_place = load_environment()

pythonpath = next(iter(importlib.util.find_spec("pgadmin4").submodule_search_locations))
wsgi_app = "pgAdmin4:app"
bind = f"{_place.listen}:{_place.port}"
workers = 1
worker_class = "gthread"
threads = 16
timeout = 120
graceful_timeout = 5
worker_tmp_dir = str(_place.data)
control_socket_disable = True  # it would lie in the home folder of whoever started it, where another service's lies too
accesslog = None
errorlog = "-"
loglevel = "warning"


def post_fork(server, worker):
    """A worker dies with its master, also when that is killed, so that the port is free for the next one."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
