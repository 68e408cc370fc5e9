"""The folder of keys and certificates, if ``--folder`` does not name one."""

from __future__ import annotations

import os
from pathlib import Path

from .failure import UsageError


def default_folder() -> Path:
    """Returns the system's folder for root, and otherwise the user's own.

    A service of systemd may have no home folder, or ``/``; its state directory takes the place.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/acme-micro")
    data = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(data):  # the XDG specification: a relative path is ignored
        return Path(data, "acme-micro")
    home = os.path.expanduser("~")
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if os.path.isabs(state) and not (os.path.isabs(home) and home.strip("/")):
        return Path(state)
    if os.path.isabs(home):
        return Path(home, ".local", "share", "acme-micro")
    raise UsageError("there is no home folder for keys and certificates", "add --folder DIR")
