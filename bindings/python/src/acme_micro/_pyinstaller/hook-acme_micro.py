"""Modules are imported when they are needed, and ctypes loads the shared library."""

from PyInstaller.utils.hooks import collect_dynamic_libs, collect_submodules  # type: ignore

hiddenimports = collect_submodules("acme_micro", lambda name: "_pyinstaller" not in name)
binaries = collect_dynamic_libs("acme_micro", search_patterns=["libacme-micro.so.*"])
