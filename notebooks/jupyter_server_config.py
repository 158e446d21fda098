"""JupyterLab's settings where they differ from its own. Secrets are read from their files and stand in no log and no address."""

import os

from mbats.settings import load_settings

c = get_config()  # noqa: F821 - Jupyter gives it
_settings = load_settings()

c.ServerApp.ip = _settings.listen
c.ServerApp.port = _settings.jupyter_port
c.ServerApp.port_retries = 0  # a port that is taken is an error, not a reason to take another
c.ServerApp.open_browser = False
c.ServerApp.use_redirect_file = False
c.IdentityProvider.token = _settings.required_secret("jupyter_token").get_secret_value()
c.PasswordIdentityProvider.allow_password_change = False  # one set on the page of the login would outlive a rotated token
# Another name in the address bar that leads here is a page of somebody else's.
c.ServerApp.allow_remote_access = False
c.ServerApp.local_hostnames = ["localhost", _settings.jupyter_host]
c.ServerApp.allow_root = os.geteuid() == 0  # it warns who runs it as root; whoever started the platform as root knows

# Notebooks and strategies are seen side by side. The state folder is hidden, which keeps it out of sight, not out of reach:
# who may run Python here may read what its user may read.
c.ServerApp.root_dir = str(_settings.root)
c.FileContentsManager.preferred_dir = str(_settings.root / "notebooks")
c.FileContentsManager.hide_globs = ["__pycache__", "*.pyc", "*~", "Dockerfile", "jupyter_server_config.py"]  # not the user's work

# Nothing is asked of the internet.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
