"""The other operations of ACME at a real CA; some tests start a Pebble with other settings."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import ssl
import threading
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from conftest import PebbleDns, env, openssl, verify
from outside import another_pebble

import acme_micro as acme


def client_of(pebble, **options):
    options.setdefault("terms_agreed", True)
    key = options.pop("key", None) or acme.PrivateKey.generate()
    return acme.Client(
        pebble["ACME_DIRECTORY"], key, ca_file=pebble["ACME_CA_FILE"], **options
    )


def management(path, pebble=os.environ, **body):
    context = ssl.create_default_context(cafile=pebble["ACME_CA_FILE"])
    data = json.dumps(body).encode() if body else None
    url = pebble["PEBBLE_MANAGEMENT"] + path
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10, context=context) as r:
        return r.read()


class Counting(acme.MemoryHttp01):
    """A solver that records the challenges, and publishes nothing."""

    def __init__(self):
        super().__init__()
        self.published = []

    def publish(self, challenges):
        self.published += [(c.type, c.identifier) for c in challenges]


# --- challenges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["acct.test", "*.acct.test"])
def test_dns_account_01(new_pebble, client, name, tmp_path):
    class Dns(PebbleDns):
        challenge_types = ("dns-account-01",)

    verify(client.obtain([name], Dns()), [name], tmp_path)


@pytest.fixture
def no_reuse(new_pebble, monkeypatch):
    """A CA that validates each order, even if the account has a valid authorization."""
    with another_pebble("--env", "PEBBLE_AUTHZREUSE=0") as pebble:
        for name in ("PEBBLE_CHALLTESTSRV", "PEBBLE_ROOT"):
            monkeypatch.setenv(name, pebble[name])
        yield pebble


@pytest.mark.parametrize("name", ["persist.test", "*.persist.test"])
def test_dns_persist_01_names_the_account_and_stays(no_reuse, name, tmp_path):
    class Dns(PebbleDns):
        challenge_types = ("dns-persist-01",)
        published = 0
        removed = ()

        def publish(self, challenges):
            self.published += 1
            if self.published == 1:
                super().publish(challenges)
            (challenge,) = challenges
            assert challenge.dns_name == "_validation-persist.persist.test"
            assert f"; accounturi={client.account_url}" in challenge.dns_value
            assert challenge.dns_value.endswith("; policy=wildcard") == name.startswith("*.")
            assert (challenge.token, challenge.key_authorization) == ("", "")
            assert challenge.persistent

        def unpublish(self, challenges):
            self.removed += challenges

    dns, client = Dns(), client_of(no_reuse)
    verify(client.obtain([name], dns), [name], tmp_path)
    # The second order is validated by the same record. Pebble reuses one authorization of a hundred at 0 %, and
    # then there is nothing to publish.
    for _ in range(8):
        if dns.published < 2:
            verify(client.obtain([name], dns), [name], tmp_path)
    assert (dns.published, dns.removed) == (2, ())


def test_each_name_by_a_type_of_its_own(client, standalone, tmp_path):
    class Mixed:
        def publish(self, challenges):
            self.types = {c.identifier: c.type for c in challenges}
            assert not any(c.persistent for c in challenges)
            standalone.publish(tuple(c for c in challenges if c.http_path))
            PebbleDns().publish([c for c in challenges if c.dns_name])

        def unpublish(self, challenges):
            standalone.unpublish(tuple(c for c in challenges if c.http_path))
            PebbleDns().unpublish([c for c in challenges if c.dns_name])

    solver = Mixed()
    names = ["own.test", "*.own.test"]
    cert = client.obtain(names, solver, challenge_by_name={"*.own.test": "dns-01"})
    verify(cert, names, tmp_path)
    with pytest.raises(acme.InvalidArgument, match="other.test"):
        client.begin_order(["own.test"], challenge_by_name={"other.test": "dns-01"})
    with pytest.raises(acme.InvalidArgument, match="wildcard"):
        client.begin_order(["*.own.test"], challenge_by_name={"*.own.test": "http-01"})


def test_an_ip_address(new_pebble, client, standalone, tmp_path):
    cert = client.obtain(["127.0.0.1"], standalone)
    assert cert.names == ("127.0.0.1",)
    text = openssl("x509", "-noout", "-ext", "subjectAltName", input=cert.chain_pem)
    assert "IP Address:127.0.0.1" in text
    with pytest.raises(acme.InvalidArgument, match="127.0.0.1.*dns-01"):
        client.begin_order(["127.0.0.1"], challenge_types=["dns-01"])


# --- authorizations and orders --------------------------------------------------------------------


def test_an_authorization_is_reused_until_it_is_deactivated(standalone):
    with another_pebble("--env", "PEBBLE_AUTHZREUSE=100") as pebble:
        standalone = acme.Standalone(int(pebble["PEBBLE_HTTP_PORT"]))
        client = client_of(pebble)
        client.obtain(["reuse.test"], standalone)
        counting = Counting()
        client.obtain(["reuse.test"], counting)
        assert counting.published == []


def test_orders_are_listed_and_abandoned(client, standalone):
    client.register()
    assert client.orders() == ()
    op = client.begin_order(["left.test", "right.test"])
    for step in op:
        if isinstance(step, acme.Request):
            step.send()
        elif isinstance(step, acme.Publish):
            break
    assert client.orders() == (op.order_url,)
    client.abandon_order(op.order_url)
    client.abandon_order(op.order_url)  # a second time is no error
    # An abandoned order cannot be resumed: another order takes its place.
    again = client.begin_order(["left.test", "right.test"], order_url=op.order_url)
    again.run(standalone)
    assert again.certificate and again.order_url != op.order_url


def test_a_failure_leaves_no_authorization_pending_on_request(new_pebble, client):
    class Broken(acme.MemoryHttp01):
        def publish(self, challenges):
            raise KeyError("no such zone")

    names = ["a.left.test", "b.left.test"]
    for abandon, left in [(True, 0), (False, 1)]:
        with pytest.raises(KeyError):
            client.obtain(names, Broken(), abandon_on_failure=abandon)
        # Pebble lists the orders that are not invalid.
        assert len(client.orders()) == left


def test_the_error_says_what_pebble_does_not_offer(client, standalone):
    with pytest.raises(acme.Unsupported, match="newAuthz"):
        client.authorize(["ahead.test"], standalone)
    with pytest.raises(acme.Unsupported, match="RFC 9444"):
        client.obtain(["a.b.test"], standalone, ancestor_domain="b.test")
    with pytest.raises(acme.InvalidArgument, match="authorization_url"):
        client.deactivate_authorization("https://elsewhere.example/authz/1")


# --- accounts -------------------------------------------------------------------------------------


def test_an_external_account_is_bound():
    hmac_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    with another_pebble("--eab", f"kid-1:{hmac_key}") as pebble:
        with pytest.raises(acme.ExternalAccountRequired):
            client_of(pebble).register()
        for eab in [("kid-2", hmac_key), ("kid-1", hmac_key[:-4] + "AAAA")]:
            with pytest.raises(acme.ProblemError) as caught:
                client_of(pebble, eab=eab).register()
            assert caught.value.permanent and hmac_key not in str(caught.value)
        assert client_of(pebble, eab=("kid-1", hmac_key)).register()
        with pytest.raises(acme.InvalidArgument, match="base64url"):
            client_of(pebble, eab=("kid-1", "not base64!"))


def test_the_terms_are_agreed_to_by_their_url(client):
    client.register()
    agreed = client_of(os.environ, terms_agreed=False, agreed_terms_url=client.terms_url)
    assert agreed.register()
    old = client_of(os.environ, terms_agreed=False, agreed_terms_url="https://ca.test/terms-2020")
    with pytest.raises(acme.TermsNotAgreed, match="terms-2020") as caught:
        old.register()
    # Pebble's terms are a data: URL, which is not shown to a user.
    assert caught.value.help_url in (None, client.terms_url)


@pytest.mark.parametrize("kind", ["P256", "P384", "P521", "RSA2048", "RSA3072"])
def test_account_keys_of_every_kind_that_pebble_takes(kind, standalone):
    key = acme.PrivateKey.generate(acme.KeyType[kind])
    client = client_of(os.environ, key=key, accept_language="de, en;q=0.5")
    assert client.register() == client.find_account()


@pytest.mark.parametrize("kind", ["P256", "P384", "RSA2048", "RSA4096"])
def test_certificate_keys_of_every_kind(client, standalone, kind, tmp_path):
    name = f"{kind.lower()}.test"
    cert = client.obtain([name], standalone, key=acme.PrivateKey.generate(acme.KeyType[kind]))
    verify(cert, [name], tmp_path)
    assert cert.key_type == acme.KeyType[kind]


def test_a13_a_key_that_is_not_the_accounts_is_named(client, standalone):
    url = client.register()
    swapped = client_of(os.environ, account_url=url)
    with pytest.raises(acme.AccountError, match="the key is no account's") as caught:
        swapped.obtain(["swapped.test"], standalone)
    assert caught.value.permanent and url in str(caught.value)
    assert swapped.account_url == url and client.find_account() == url


def test_a15_programs_that_register_one_key_at_once_get_one_account():
    for _ in range(5):
        key = acme.PrivateKey.generate()
        clients = [client_of(os.environ, key=key) for _ in range(4)]
        start = threading.Barrier(len(clients))

        def register(client):
            start.wait(10)
            return client.register()

        with concurrent.futures.ThreadPoolExecutor(len(clients)) as threads:
            assert len(set(threads.map(register, clients))) == 1


# --- certificates ---------------------------------------------------------------------------------


def test_alternate_chains_are_chosen_by_their_root(tmp_path):
    with another_pebble("--env", "PEBBLE_ALTERNATE_ROOTS=2") as pebble:
        standalone = acme.Standalone(int(pebble["PEBBLE_HTTP_PORT"]))
        client = client_of(pebble)
        for index in range(3):
            root = management(f"/roots/{index}", pebble).decode()
            subject = openssl("x509", "-noout", "-subject", "-nameopt", "multiline", input=root)
            name = subject.split("commonName")[1].split("=")[1].strip()
            cert = client.obtain(["alt.test"], standalone, preferred_chain=name)
            (tmp_path / "root.pem").write_text(root)
            (tmp_path / "chain.pem").write_text(cert.chain_pem)
            chain = str(tmp_path / "chain.pem")
            openssl("verify", "-CAfile", str(tmp_path / "root.pem"), "-untrusted", chain, chain)


def test_a_window_in_the_past_means_now(new_pebble, client, standalone, tmp_path):
    cert = client.obtain(["moved.test"], standalone)
    assert not client.renewal_info(cert).is_due
    now = datetime.now(timezone.utc).replace(microsecond=0)
    window = {
        "start": (now - timedelta(days=2)).isoformat(),
        "end": (now - timedelta(days=1)).isoformat(),
    }
    answer = {"suggestedWindow": window, "explanationURL": "https://ca.test/incident"}
    body = {"certificate": cert.chain_pem, "ARIResponse": json.dumps(answer)}
    management("/set-renewal-info/", **body)
    info = client.renewal_info(cert)
    assert info.is_due and info.from_ca and info.explanation_url == "https://ca.test/incident"
    op = client.begin_order(["moved.test"], replaces=cert, only_if_due=True)
    op.run(standalone)
    verify(op.certificate, ["moved.test"], tmp_path)
    assert op.certificate.serial != cert.serial
    # The certificate is replaced already. The CA refuses a second replacement, so the order does not
    # ask for it.
    again = client.obtain(["moved.test"], standalone, replaces=cert)
    assert again.serial != op.certificate.serial
    # Without valid renewal information, the lifetime decides.
    body["ARIResponse"] = "{"
    management("/set-renewal-info/", **body)
    assert not client.renewal_info(cert).from_ca


def test_the_ca_knows_of_a_revocation(client, standalone):
    def status(cert):
        answer = json.loads(management(f"/cert-status-by-serial/{cert.serial}"))
        return answer["Status"], answer.get("Reason", 0)

    cert = client.obtain(["revoked.test"], standalone)
    assert status(cert)[0] == "Valid"
    client.revoke(cert, acme.RevocationReason.KEY_COMPROMISE)
    assert status(cert) == ("Revoked", 1)
    other = client.obtain(["revoked.test"], standalone)
    stranger = client_of(os.environ)
    stranger.revoke(other, acme.RevocationReason.CESSATION_OF_OPERATION, key=other.key)
    assert status(other) == ("Revoked", 5)
    third = client.obtain(["revoked.test"], standalone)
    stranger.register()
    with pytest.raises(acme.ProblemError):
        stranger.revoke(third)
    assert status(third)[0] == "Valid"


# --- a CA that refuses nonces -----------------------------------------------------------------------


def test_n03_half_of_all_good_nonces_are_refused_and_no_certificate_is_lost():
    issuances = int(os.environ.get("NONCE_ISSUANCES", "200"))

    async def main(pebble):
        solver = acme.AsyncStandalone(int(pebble["PEBBLE_HTTP_PORT"]))
        client = acme.AsyncClient(
            pebble["ACME_DIRECTORY"],
            acme.PrivateKey.generate(),
            ca_file=pebble["ACME_CA_FILE"],
            terms_agreed=True,
        )
        async with client as ca:
            await ca.register()
            # As many at once as the timeouts of CA and library allow.
            slots = asyncio.Semaphore(50)

            async def obtain(n):
                async with slots:
                    cert = await ca.obtain([f"n{n}.nonces.test"], solver)
                return list(cert.names) == [f"n{n}.nonces.test"]

            orders = (obtain(n) for n in range(issuances))
            return await asyncio.gather(*orders, return_exceptions=True)

    with another_pebble("--env", "PEBBLE_WFE_NONCEREJECT=50") as pebble:
        outcomes = asyncio.run(main(pebble))
        assert "reject 50% of good nonces" in Path(pebble["PEBBLE_LOG"]).read_text()
    failed = [outcome for outcome in outcomes if outcome is not True]
    assert not failed, f"{len(failed)} of {issuances}: {failed[:3]}"
