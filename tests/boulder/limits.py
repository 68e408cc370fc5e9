"""The rate limits of the Boulder under test: so low that a test can use one up."""

from __future__ import annotations

import addresses

DUPLICATE_CERTIFICATES = 2
FAILED_AUTHORIZATIONS = 3
NEW_ORDERS = 8
NEW_ACCOUNTS = 3  # for clients at CA_OF_FEW_ACCOUNTS

UNLIMITED = {"count": 1_000_000, "burst": 1_000_000, "period": "168h"}


def limit(count: int, period: str) -> dict[str, object]:
    return {"count": count, "burst": count, "period": period}


DEFAULTS = {
    "CertificatesPerFQDNSet": limit(DUPLICATE_CERTIFICATES, "168h"),
    "FailedAuthorizationsPerDomainPerAccount": limit(FAILED_AUTHORIZATIONS, "1h"),
    # Unlimited, because otherwise Boulder would pause a name before the limit of failed authorizations is
    # reached. The tests of pausing pause names themselves.
    "FailedAuthorizationsForPausingPerDomainPerAccount": UNLIMITED,
    "NewOrdersPerAccount": limit(NEW_ORDERS, "3h"),
    "NewRegistrationsPerIPAddress": limit(NEW_ACCOUNTS, "3h"),
}

OVERRIDES = [
    {
        "NewRegistrationsPerIPAddress": {
            **UNLIMITED,
            "ids": [{"id": addresses.CA, "comment": "all other tests"}],
        }
    }
]
