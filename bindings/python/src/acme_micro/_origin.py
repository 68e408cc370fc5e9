"""The CA to which the files of a store belong: the file ``directory.url``.

Its first line is the URL of the CA's directory. Each line ``other FILE`` names a certificate that was in the
folder before this file was: nothing shows which CA has issued it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from urllib.parse import urljoin, urlsplit

from ._folder import PUBLIC, Folder
from .errors import StoreError

__all__ = ["Origin"]

DIRECTORY_URL, OTHER = "directory.url", "other "


class Origin:
    """The note of the CA in a folder."""

    def __init__(self, folder: Folder):
        self._folder = folder

    @property
    def url(self) -> str | None:
        """The URL of the directory; None in the folder of an older version, and in a new one."""
        return self._read()[0]

    def check(self, directory_url: str) -> None:
        """Refuses another CA than the one to which the files belong."""
        url = self.url
        if url is None or _plain(url) == _plain(directory_url):
            return
        why = (
            f"the files in this folder are for the CA {url}: use another folder for {directory_url}; "
            "if this is the new URL of the same CA, remove this file"
        )
        raise StoreError.of(self._folder.path_of(DIRECTORY_URL), OSError(errno.EINVAL, why))

    def issuer_of(self, file: str) -> str | None:
        """Returns the URL of the directory of the CA that has issued a stored certificate; empty: another CA,
        None: nothing is noted."""
        url, others = self._read()
        return "" if file in others else url

    def note(self, directory_url: str, files: Iterable[str], account_url: str | None) -> None:
        """Notes the CA, if nothing is noted yet. ``files`` are the certificates in the folder.

        Without a note, the account is a sign of who has issued them: its URL begins as the directory's does.
        """
        if self.url is None:
            is_ours = account_url is not None and _plain(account_url).startswith(
                urljoin(_plain(directory_url), ".")
            )
            self._write(directory_url, () if is_ours else files)

    def note_issued(self, file: str) -> None:
        """Notes that the CA of this folder has issued this certificate."""
        url, others = self._read()
        if url is not None and file in others:
            self._write(url, others - {file})

    def _read(self) -> tuple[str | None, set[str]]:
        data = self._folder.read(DIRECTORY_URL) or b""
        url, *lines = data.decode("utf-8-sig", "replace").splitlines() or [""]
        return url.strip() or None, {one[len(OTHER) :] for one in lines if one.startswith(OTHER)}

    def _write(self, url: str, others: Iterable[str]) -> None:
        lines = (url, *(f"{OTHER}{file}" for file in sorted(others)))
        self._folder.write(DIRECTORY_URL, "".join(f"{line}\n" for line in lines).encode(), PUBLIC)


def _plain(url: str) -> str:
    """Returns the one spelling of a URL: small letters in scheme and host, and no usual port."""
    try:
        parts = urlsplit(url)
    except ValueError:  # the client refuses it
        return url
    return parts._replace(netloc=parts.netloc.lower().removesuffix(":443")).geturl()
