"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._client import LETSENCRYPT, LETSENCRYPT_STAGING, ChainBy, ClientBase, Profile
from ._native import RevocationReason
from .certificates import Certificate
from .keys import PrivateKey
from .operation import RenewalInfo, Signer
from .solvers import Solver, with_types_of

__all__ = ["LETSENCRYPT", "LETSENCRYPT_STAGING", "ChainBy", "Client", "Profile"]


class Client(ClientBase):
    """An account at a CA: directory, account key, nonces and connections.

    Make one client and share it, also between threads. Its constructor sends nothing; the first
    operation that needs the account registers it. Each method blocks until its operation ends;
    :class:`AsyncClient` has the same methods for asyncio.
    """

    def register(self) -> str:
        """Registers the account, or finds the existing one; returns its URL (RFC 8555 section 7.3)."""
        self.begin_register().run()
        return self._account_url()

    def find_account(self) -> str:
        """Finds the account of the key, and returns its URL; see :meth:`begin_find_account`."""
        self.begin_find_account().run()
        return self._account_url()

    def update_contacts(self, contacts: Iterable[str]) -> None:
        """Replaces the account's contacts (RFC 8555 section 7.3.2); an empty list removes them."""
        self.begin_update_contacts(contacts).run()

    def change_key(self, new_key: PrivateKey) -> None:
        """Replaces the account's key; :meth:`begin_key_change` says when to store which key."""
        self.begin_key_change(new_key).run()

    def deactivate(self) -> None:
        """Deactivates the account (RFC 8555 section 7.3.6). This cannot be undone."""
        self.begin_deactivate().run()

    def renewal_info(self, certificate: Certificate) -> RenewalInfo:
        """Finds out when to renew a certificate (RFC 9773); see :meth:`begin_renewal_info`."""
        operation = self.begin_renewal_info(certificate)
        operation.run()
        assert operation.renewal_info is not None
        return operation.renewal_info

    def authorize(self, names: Iterable[str], solver: Solver, **options: Any) -> tuple[str, ...]:
        """Validates names before an order; returns the URLs of their authorizations.

        The other options are those of :meth:`begin_authorize`.
        """
        operation = self.begin_authorize(names, **with_types_of(solver, options))
        operation.run(solver)
        return operation.urls

    def deactivate_authorization(self, authorization_url: str) -> None:
        """Deactivates an authorization (RFC 8555 section 7.5.2). This cannot be undone."""
        self.begin_deactivate_authorization(authorization_url).run()

    def abandon_order(self, order_url: str) -> None:
        """Deactivates the pending authorizations of an order; see :meth:`begin_abandon_order`."""
        self.begin_abandon_order(order_url).run()

    def orders(self) -> tuple[str, ...]:
        """Returns the URLs of the account's orders (RFC 8555 section 7.1.2.1)."""
        operation = self.begin_list_orders()
        operation.run()
        return operation.urls

    def revoke(
        self,
        certificate: Certificate,
        reason: RevocationReason = RevocationReason.UNSPECIFIED,
        *,
        key: PrivateKey | None = None,
    ) -> None:
        """Revokes a certificate; see :meth:`begin_revoke`."""
        self.begin_revoke(certificate, reason, key=key).run()

    def obtain(
        self,
        names: Iterable[str],
        solver: Solver,
        *,
        sign: Signer | None = None,
        **options: Any,
    ) -> Certificate:
        """Obtains a certificate: registers the account if necessary, orders, validates, downloads.

        ``solver`` publishes the challenges, such as :class:`Webroot` or :class:`Standalone`; an
        exception of its ``publish`` is raised here, unchanged. ``sign`` signs with keys outside the
        process. The other options are those of :meth:`begin_order`.
        """
        operation = self.begin_order(names, **with_types_of(solver, options))
        operation.run(solver, sign)
        return operation.certificate
