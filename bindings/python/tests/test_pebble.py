"""Certificates from a real CA."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import threading
import urllib.error
import urllib.request
from datetime import datetime, timezone
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import PebbleDns, env, verify

import acme_micro as acme


def test_standalone_two_names(client, standalone, tmp_path):
    cert = client.obtain(["one.test", "www.one.test"], standalone)
    verify(cert, ["one.test", "www.one.test"], tmp_path)
    assert cert.not_before < datetime.now(timezone.utc) < cert.not_after
    assert cert.days_left > 1
    assert client.account_url.startswith("https://")
    with pytest.raises(OSError):  # the server has stopped
        socket.create_connection(("127.0.0.1", int(env("PEBBLE_HTTP_PORT"))), 1).close()


def test_webroot_behind_a_web_server(client, tmp_path):
    root = tmp_path / "html"
    root.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", int(env("PEBBLE_HTTP_PORT"))), handler) as server:
        handler.func.log_message = lambda *args: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cert = client.obtain(["webroot.test"], acme.Webroot(root))
        server.shutdown()
    verify(cert, ["webroot.test"], tmp_path)
    assert os.listdir(root / ".well-known" / "acme-challenge") == []


def test_t13_webroot_replaces_what_a_killed_run_left_behind(tmp_path):
    token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
    path = f"/.well-known/acme-challenge/{token}"
    challenge = acme.Challenge("http-01", "left.test", token, f"{token}.thumbprint", path)
    folder = tmp_path / ".well-known" / "acme-challenge"
    for left in ("file", "link"):
        solver = acme.Webroot(tmp_path)
        folder.mkdir(parents=True, exist_ok=True)
        victim = tmp_path / "victim"
        victim.write_text("mine")
        if left == "file":
            (folder / token).write_text("old")
        else:
            (folder / token).symlink_to(victim)
        solver.publish((challenge,))
        assert (folder / token).read_text() == f"{token}.thumbprint"
        assert not (folder / token).is_symlink() and victim.read_text() == "mine"
        solver.unpublish((challenge,))
        assert os.listdir(folder) == []


def test_standalone_answers_on_ipv6_too(standalone):
    token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
    path = f"/.well-known/acme-challenge/{token}"
    challenge = acme.Challenge("http-01", "six.test", token, f"{token}.thumbprint", path)
    port = int(env("PEBBLE_HTTP_PORT"))
    hosts = ["127.0.0.1"] + (["[::1]"] if socket.has_dualstack_ipv6() else [])
    standalone.publish((challenge,))
    for host in hosts:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10) as answer:
            assert answer.read().decode() == challenge.key_authorization
    standalone.unpublish((challenge,))


def test_wildcard_by_dns(client, tmp_path):
    cert = client.obtain(["*.wild.test"], PebbleDns())
    verify(cert, ["*.wild.test"], tmp_path)


def test_tls_alpn(client, tmp_path):
    class TlsAlpn:
        challenge_types = ("tls-alpn-01",)

        def publish(self, challenges):
            (challenge,) = challenges
            answer = acme.Certificate.tls_alpn(challenge)
            (tmp_path / "answer.pem").write_text(answer.key.pem + answer.chain_pem)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tmp_path / "answer.pem")
            context.set_alpn_protocols(["acme-tls/1"])
            self.listener = socket.create_server(("127.0.0.1", int(env("PEBBLE_TLS_PORT"))))
            threading.Thread(target=self.serve, args=(context,), daemon=True).start()

        def serve(self, context):
            while True:
                try:
                    connection, _ = self.listener.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

        def unpublish(self, challenges):
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()

    verify(client.obtain(["alpn.test"], TlsAlpn()), ["alpn.test"], tmp_path)


def test_asyncio_program_of_the_readme(client, standalone, tmp_path):
    context = ssl.create_default_context(cafile=env("ACME_CA_FILE"))

    def send(step):
        body = step.body if step.method == "POST" else None
        request = urllib.request.Request(step.url, body, dict(step.headers), method=step.method)
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as r:
                return r.status, r.getheaders(), r.read()
        except urllib.error.HTTPError as r:
            return r.code, list(r.headers.items()), r.read()

    async def obtain(names):
        op = client.begin_order(names)
        for step in op:
            if isinstance(step, acme.Request):
                step.respond(*await asyncio.to_thread(send, step))
            elif isinstance(step, acme.Wait):
                await asyncio.sleep(0.05 if step.seconds is None else step.seconds)
            elif isinstance(step, acme.Publish):
                standalone.publish(step.challenges)
            elif isinstance(step, acme.Unpublish):
                standalone.unpublish(step.challenges)
        return op.certificate

    async def both():
        return await asyncio.gather(obtain(["a.async.test"]), obtain(["b.async.test"]))

    for cert, name in zip(asyncio.run(both()), ["a.async.test", "b.async.test"]):
        verify(cert, [name], tmp_path)


def test_a_known_account_is_found_by_its_key(client):
    url = client.register()
    assert url == client.account_url
    with pytest.raises(acme.AccountError):
        other = acme.PrivateKey.generate()
        acme.Client(
            env("ACME_DIRECTORY"), other, terms_agreed=True, ca_file=env("ACME_CA_FILE")
        ).find_account()
    assert client.find_account() == url


def test_the_key_of_an_account_is_changed(client, standalone):
    url = client.register()
    new = acme.PrivateKey.generate(acme.KeyType.P384)
    client.change_key(new)
    client.update_contacts(["mailto:you@example.org"])
    assert client.obtain(["rolled.test"], standalone).names == ("rolled.test",)
    again = acme.Client(env("ACME_DIRECTORY"), new, ca_file=env("ACME_CA_FILE"))
    assert again.find_account() == url
    again.deactivate()
    with pytest.raises(acme.AccountError):
        again.find_account()


def test_renewal_information_and_revocation(new_pebble, client, standalone):
    cert = client.obtain(["ari.test"], standalone)
    info = client.renewal_info(cert)
    assert info.from_ca and info.window_start <= info.renew_at <= info.window_end
    assert not info.is_due and info.check_again_at > datetime.now(timezone.utc)
    assert client.renewal_info(cert).renew_at == info.renew_at, "the moment is picked once"
    op = client.begin_order(["ari.test"], replaces=cert, only_if_due=True)
    op.run(standalone)
    assert op.renewal_info == info or op.renewal_info.renew_at == info.renew_at
    with pytest.raises(acme.Misuse):
        op.certificate
    client.obtain(["ari.test"], standalone, replaces=cert)
    client.revoke(cert, acme.RevocationReason.SUPERSEDED)
    client.revoke(cert, key=cert.key)


def test_profiles(two_profiles):
    client = acme.Client(
        two_profiles["ACME_DIRECTORY"],
        acme.PrivateKey.generate(),
        terms_agreed=True,
        ca_file=two_profiles["ACME_CA_FILE"],
    )
    standalone = acme.Standalone(int(two_profiles["PEBBLE_HTTP_PORT"]))
    client.register()
    assert "shortlived" in [profile.name for profile in client.profiles]
    cert = client.obtain(["short.test"], standalone, profile="shortlived")
    assert cert.days_left < 7
    with pytest.raises(acme.Unsupported, match="none-such.*shortlived"):
        client.obtain(["short.test"], standalone, profile="none-such")
    client.obtain(["short.test"], standalone, profile="none-such", profile_optional=True)


def test_keys_that_are_outside_the_process(standalone, tmp_path):
    """The openssl command takes the place of an HSM, for the account's key and the certificate's."""
    from conftest import openssl

    def make(name):
        private = tmp_path / f"{name}.pem"
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private))
        return private, acme.PrivateKey.from_public(openssl("pkey", "-in", str(private), "-pubout"))

    files = {}
    keys = []
    for name in ("account", "certificate"):
        file, key = make(name)
        files[key.thumbprint] = file
        keys.append(key)

    def sign(step):
        (tmp_path / "input").write_bytes(step.input)
        out = tmp_path / "signature"
        key = str(files[step.key_thumbprint])
        openssl("dgst", "-sha256", "-sign", key, "-out", str(out), str(tmp_path / "input"))
        return out.read_bytes()

    account, certificate = keys
    ca = acme.Client(
        env("ACME_DIRECTORY"), account, terms_agreed=True, ca_file=env("ACME_CA_FILE")
    )
    cert = ca.obtain(["hsm.test"], standalone, key=certificate, sign=sign)
    assert cert.names == ("hsm.test",)
    assert cert.key.thumbprint == certificate.thumbprint
    with pytest.raises(acme.AcmeError):
        cert.key.pem
    with pytest.raises(ZeroDivisionError):
        ca.obtain(["hsm.test"], standalone, key=certificate, sign=lambda step: 1 / 0)


def test_resuming_an_order(client, standalone, tmp_path):
    key = acme.PrivateKey.generate()
    op = client.begin_order(["resumed.test"], key=key)
    for step in op:
        if isinstance(step, acme.Request):
            step.send()
        if op.order_url:
            break
    url = op.order_url
    op.close()
    cert = client.obtain(["resumed.test"], standalone, key=key, order_url=url)
    verify(cert, ["resumed.test"], tmp_path)


def test_a_failed_challenge_says_whose_and_why(client):
    with pytest.raises(acme.ChallengeFailed) as caught:
        client.obtain(["nobody.test"], acme.MemoryHttp01())
    error = caught.value
    assert error.identifier == "nobody.test"
    assert error.problem["type"].startswith("urn:ietf:params:acme:error:")
    assert "nobody.test" in str(error) and "http-01" in str(error)


def test_a_refused_name(client, standalone):
    with pytest.raises(acme.OrderRejected) as caught:
        client.obtain(["blocked-domain.example"], standalone)
    assert caught.value.permanent


def test_terms_that_are_not_agreed_to(standalone):
    key = acme.PrivateKey.generate()
    ca = acme.Client(env("ACME_DIRECTORY"), key, ca_file=env("ACME_CA_FILE"))
    with pytest.raises(acme.TermsNotAgreed, match="terms_agreed"):
        ca.obtain(["terms.test"], standalone)
    assert ca.terms_url


def test_t11_y08_a_solvers_own_exception_comes_back_and_nothing_is_left(client):
    class Broken(acme.MemoryHttp01):
        def publish(self, challenges):
            super().publish(challenges[:1])
            raise KeyError("no such zone")

    solver = Broken()
    with pytest.raises(KeyError, match="no such zone"):
        client.obtain(["x.test", "y.test"], solver)
    assert not solver._answers


def test_t12_an_exception_of_unpublish_is_logged_and_the_certificate_kept(client, standalone, caplog):
    class Broken:
        def publish(self, challenges):
            standalone.publish(challenges)

        def unpublish(self, challenges):
            standalone.unpublish(challenges)
            raise KeyError("no such zone")

    with caplog.at_level("WARNING", "acme_micro"):
        certificate = client.obtain(["kept.test"], Broken())
    assert list(certificate.names) == ["kept.test"]
    (record,) = caplog.records
    assert "kept.test" in record.getMessage() and record.exc_info


def test_y09_ctrl_c_removes_the_challenges(client, standalone):
    class Impatient(acme.MemoryHttp01):
        def publish(self, challenges):
            super().publish(challenges)
            raise KeyboardInterrupt

    solver = Impatient()
    with pytest.raises(KeyboardInterrupt):
        client.obtain(["z.test"], solver)
    assert not solver._answers


def test_cancel(client, standalone):
    op = client.begin_order(["cancel.test"])
    op.cancel()
    with pytest.raises(acme.Canceled):
        op.run(standalone)


def test_the_cas_own_https_is_checked():
    ca = acme.Client(env("ACME_DIRECTORY"), acme.PrivateKey.generate(), ca_file=env("PEBBLE_ROOT"))
    with pytest.raises(acme.TransportError, match="certificate verify failed"):
        ca.register()


def test_logging(client, caplog):
    acme.logging.install(acme._native.LogLevel.DEBUG)
    try:
        with caplog.at_level("DEBUG", "acme_micro"):
            client.register()
    finally:
        acme.logging.uninstall()
    text = caplog.text
    assert "HTTP status 201" in text


def test_a_transcript_is_logged(client, caplog):
    acme.logging.install(acme.logging.LogLevel.TRACE)
    try:
        with caplog.at_level("DEBUG", "acme_micro"):
            client.register()
    finally:
        acme.logging.uninstall()
    lines = [r.message for r in caplog.records if r.name == "acme_micro.transcript"]
    first, *_, last = [json.loads(line) for line in lines]
    assert first["directory"] == env("ACME_DIRECTORY")
    assert last["step"] == {"done": True}
    assert not any(json.loads(line).get("signature") for line in lines)
