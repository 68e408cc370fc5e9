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
    """One account at one CA: directory, account key, nonces, connections.

    Make one and share it, between threads too. Making it sends nothing; the account is registered
    by the first operation that needs it. Each method blocks until the CA has answered;
    :class:`AsyncClient` has the same for asyncio.
    """

    def register(self) -> str:
        """Registers the account, or finds it; gives its URL."""
        self.begin_register().run()
        return self._account_url()

    def find_account(self) -> str:
        """Finds the account of the key and makes none; gives its URL (:meth:`begin_find_account`)."""
        self.begin_find_account().run()
        return self._account_url()

    def update_contacts(self, contacts: Iterable[str]) -> None:
        """Replaces the account's contacts; none removes them (RFC 8555 section 7.3.2)."""
        self.begin_update_contacts(contacts).run()

    def change_key(self, new_key: PrivateKey) -> None:
        """Replaces the account's key; see :meth:`begin_key_change` for what to store when."""
        self.begin_key_change(new_key).run()

    def deactivate(self) -> None:
        """Deactivates the account, for good (RFC 8555 section 7.3.6)."""
        self.begin_deactivate().run()

    def renewal_info(self, certificate: Certificate) -> RenewalInfo:
        """When to renew (RFC 9773); what the CA does not say, the lifetime does."""
        operation = self.begin_renewal_info(certificate)
        operation.run()
        assert operation.renewal_info is not None
        return operation.renewal_info

    def authorize(self, names: Iterable[str], solver: Solver, **options: Any) -> tuple[str, ...]:
        """Proves names ahead of an order; gives the URLs of their authorizations.

        The other options are :meth:`begin_authorize`'s.
        """
        operation = self.begin_authorize(names, **with_types_of(solver, options))
        operation.run(solver)
        return operation.urls

    def deactivate_authorization(self, authorization_url: str) -> None:
        """Deactivates an authorization, for good (RFC 8555 section 7.5.2)."""
        self.begin_deactivate_authorization(authorization_url).run()

    def abandon_order(self, order_url: str) -> None:
        """Deactivates what is still pending of an order's authorizations."""
        self.begin_abandon_order(order_url).run()

    def orders(self) -> tuple[str, ...]:
        """The URLs of the account's orders (RFC 8555 section 7.1.2.1)."""
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
        """Revokes a certificate; see :meth:`begin_revoke`. Revoking twice is fine."""
        self.begin_revoke(certificate, reason, key=key).run()

    def obtain(
        self,
        names: Iterable[str],
        solver: Solver,
        *,
        sign: Signer | None = None,
        **options: Any,
    ) -> Certificate:
        """Obtains a certificate: account if needed, order, challenges, finalize, download.

        ``solver`` publishes the challenges, such as :class:`Webroot` or :class:`Standalone`; what it
        raises is raised here, unchanged. ``sign`` signs with keys outside the process. The other
        options are :meth:`begin_order`'s.
        """
        operation = self.begin_order(names, **with_types_of(solver, options))
        operation.run(solver, sign)
        return operation.certificate
