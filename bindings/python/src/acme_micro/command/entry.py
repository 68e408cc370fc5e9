"""The start of the command. ``--help`` and ``--version`` need little of the package, so they import little."""

from __future__ import annotations

from . import system_text, usage
from .streams import open_streams, write

TYPE_CHECKING = False  # without typing, which takes long to import
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments, or the process's own; returns its exit status."""
    given = system_text.arguments() if arguments is None else list(arguments)
    open_streams()
    if given in (["-V"], ["--version"]):
        text = usage.versions()
    elif given in (["-h"], ["--help"]) and usage.help_fits():
        text = usage.help()
    else:
        from .run import run

        return run(given)
    try:
        write(text)
        return 0
    except (Exception, KeyboardInterrupt) as error:
        from .output import Output
        from .run import report

        return report(error, Output(as_json=False, quiet=False, verbose=False), None)
