"""Solvers and clients of the Python package."""

from __future__ import annotations

import acme_micro as acme
import names
from conftest import env


class Dns:
    """Solves dns-01."""

    challenge_types = ("dns-01",)

    def publish(self, challenges):
        for challenge in challenges:
            names.set_txt(challenge.dns_name, challenge.dns_value)

    def unpublish(self, challenges):
        for challenge in challenges:
            names.clear_txt(challenge.dns_name)


def new_client(key: acme.PrivateKey | None = None) -> acme.Client:
    return acme.Client(
        env("ACME_DIRECTORY"),
        key or acme.PrivateKey.generate(),
        terms_agreed=True,
        ca_file=env("ACME_CA_FILE"),
    )
