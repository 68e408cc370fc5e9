"""The hook with which PyInstaller finds the parts of this package, which Python loads by their names."""

from __future__ import annotations

import os


def get_hook_dirs() -> list[str]:
    """Returns the folder of the hook, for PyInstaller's entry point."""
    return [os.path.dirname(__file__)]
