"""The command ``acme-micro``: certificates from a shell, a cron job or a timer.

It is also the example of a whole program on the library. In the order in which to read it:

============== =======================================================================
parser         what may be said to it; ``cas`` has the short names of CAs
run            from arguments to an exit status, whatever happens
layout         its folder: one :class:`acme_micro.Store` for each CA, and ``settings``
solve          how names are proven: webroot, a server of its own, or hooks
obtain, renew, revoke, show, account
               the subcommands
output         progress for people, results for people or programs
failure        the exit status of each error, and what to do about it; ``hints`` of challenges
============== =======================================================================
"""

from .run import main

__all__ = ["main"]
