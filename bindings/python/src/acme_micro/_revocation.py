"""Revocations of a store's certificates: neither they nor their keys are used again.

The file ``NAME.revoking`` is on the disk before the CA gets the request. If the program is killed, or the
files cannot be renamed, the next order finds it and uses another key.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from ._folder import SECRET, Folder
from ._names import CHAIN, KEY
from ._native import RevocationReason
from .errors import AcmeError, StoreError

__all__ = ["Revocation", "retire"]

REVOKING, REVOKED = ".revoking", ".revoked"


class Revocation:
    """A revocation that concerns these files of a folder, which are named without their endings."""

    def __init__(
        self,
        folder: Folder,
        files: list[str],
        reason: RevocationReason,
        locked: Callable[[str], AbstractContextManager[None]],
    ):
        self._folder, self._reason, self._locked = folder, reason, locked
        self.files = files
        for file in files:
            folder.write(file + REVOKING, f"{reason.name}\n".encode(), SECRET)

    def succeeded(self) -> None:
        """Renames the files to end in ``.revoked``."""
        for file in self.files:
            try:
                with self._locked(file):
                    retire(self._folder, file)
            except StoreError as error:
                why = f"the CA has revoked it, but the file cannot be renamed: {error}"
                path = self._folder.path_of(file + CHAIN)
                raise StoreError.of(path, OSError(error.errno or errno.EIO, why)) from error

    def failed(self, error: AcmeError) -> None:
        """Uses the files as before, unless the key is known to others."""
        if self._reason != RevocationReason.KEY_COMPROMISE:
            with suppress(StoreError):
                for file in self.files:
                    self._folder.remove(file + REVOKING)


def retire(folder: Folder, file: str) -> None:
    """Renames the files, as the library does after a kill."""
    folder.retire(file + KEY, REVOKED)  # the key first: while the chain is there, the certificate is renewed
    folder.retire(file + CHAIN, REVOKED)
    folder.remove(file + REVOKING)
