"""The command ``acme-micro``: certificates from a shell, a cron job or a timer.

It is also the example of a whole program on the library. Its files, in the order in which to read them:

============== =======================================================================
entry          the start; ``usage`` has the texts of ``--help`` and ``--version``
parser         the command line; ``cas`` has the short names of CAs
run            from arguments to an exit status
layout         its folder (``default_folder``): one :class:`acme_micro.Store` for each CA, and ``settings``
solve          how challenges are published: webroots, standalone server, or hooks
hook           runs a hook; ``system_text``: text for the system, whatever the locale
obtain, renew, revoke, show, account
               the subcommands
daemon         keeps all certificates fresh: a ``keeper`` for each CA, with ``publishers`` and ``events``;
               ``daemon_lock`` refuses a second one
output         progress for people, results for people or programs; ``streams`` below it
failure        exit status and hint for each error; ``hints`` about challenges
============== =======================================================================
"""

from .entry import main

__all__ = ["main"]
