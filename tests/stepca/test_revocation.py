"""Revoked certificates, checked with the CA's revocation list."""

from __future__ import annotations

from pathlib import Path

from conftest import fetch
from outside import openssl
from stepca import StepCa


def revoked(stepca: StepCa, folder: Path) -> str:
    """The revocation list as text. openssl verifies that the intermediate signed it."""
    der, issuer = folder / "crl.der", stepca.folder / "intermediate.pem"
    der.write_bytes(fetch(stepca.crl, stepca))
    return openssl("crl", "-inform", "DER", "-in", str(der), "-CAfile", str(issuer), "-noout", "-text")


def entry(chain: Path) -> str:
    """The beginning of this certificate's entry in the list."""
    serial = openssl("x509", "-in", str(chain), "-noout", "-serial").split("=")[1].strip()
    return f"Serial Number: {serial}\n"


def test_by_the_account_and_by_the_certificates_key(stepca, people, webroot, tmp_path):
    person, stranger = people.at("day"), people.at("day", "stranger")
    for name in "account", "key", "stays":
        person.obtains("-d", f"{name}.revoked.test", "--webroot", str(webroot))
    chains = {n: person.path(f"{n}.revoked.test.chain.pem") for n in ("account", "key", "stays")}
    entries = {name: entry(chain) for name, chain in chains.items()}
    before = revoked(stepca, tmp_path)
    assert not any(one in before for one in entries.values())

    # Another account may not revoke it.
    stranger.runs("account", "create", *stranger.ca)
    refused = stranger.runs("revoke", "--cert", str(chains["stays"]), status=4)
    assert "unauthorized" in refused.err

    by_key = ["revoke", "--cert", str(chains["key"]), "--key"]
    by_key += [str(person.path("key.revoked.test.key.pem"))]
    person.runs("revoke", "account.revoked.test", "--reason", "superseded")
    stranger.runs(*by_key)
    after = revoked(stepca, tmp_path)
    assert [one for one in entries if entries[one] in after] == ["account", "key"]
    assert "Superseded" in after.split(entries["account"])[1].split("Serial Number")[0]

    # A second revocation succeeds: step-ca returns alreadyRevoked.
    stranger.runs(*by_key)
    assert revoked(stepca, tmp_path).count(entries["key"]) == 1
