"""OpenSSL without its provider, keys that it refuses, and keys and requests that only some programs take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import acme_micro as acme
from acme_micro.command.failure import kind_of
from command_runs import Person
from outside import env, openssl

# Configuration files that leave OpenSSL without a provider of its algorithms.
CONFIGURATIONS = {
    "fips": "alg_section = s\n[s]\ndefault_properties = fips=yes\n",
    "base": "providers = s\n[s]\nbase = t\n[t]\nactivate = 1\n",
    "legacy": "providers = s\n[s]\nlegacy = t\n[t]\nactivate = 1\n",
    "null": "providers = s\n[s]\nnull = t\n[t]\nactivate = 1\n",
    "missing": "providers = s\n[s]\nno-such-provider = t\n[t]\nactivate = 1\n",
}
EXPLICIT = ("-param_enc", "explicit")


@pytest.fixture(params=CONFIGURATIONS)
def configuration(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / "openssl.cnf"
    path.write_text(f"openssl_conf = i\n[i]\n{CONFIGURATIONS[request.param]}")
    return str(path)


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path / "acme")


def explicit_key(folder: Path, curve: str = "prime256v1") -> Path:
    path = folder / f"{curve}.pem"
    openssl("ecparam", "-name", curve, "-genkey", "-noout", *EXPLICIT, "-out", str(path))
    assert "prime-field" in openssl("pkey", "-in", str(path), "-noout", "-text")
    return path


def names_the_cause(text: str) -> bool:
    return "provider" in text and "OPENSSL_CONF" in text and "FIPS" in text


def test_s19_r11_each_call_names_the_missing_provider(configuration, tmp_path):
    ec, rsa = tmp_path / "ec.pem", tmp_path / "rsa.pem"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(ec))
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(rsa))
    request = openssl("req", "-new", "-key", str(rsa), "-subj", "/CN=a.test")
    program = f"""if True:
        import acme_micro as acme
        rsa, request = {rsa.read_text()!r}, {request!r}
        for call in (
            acme.PrivateKey.generate,
            lambda: acme.PrivateKey.generate(acme.KeyType.RSA2048),
            lambda: acme.PrivateKey.generate(acme.KeyType.ED25519),
            lambda: acme.PrivateKey.parse(rsa),
            lambda: acme.SigningRequest.parse(request),
            lambda: acme.PrivateKey.parse("rubbish"),
        ):
            try:
                print("no error", call())
            except acme.CryptoError as error:
                print(error)
        try:
            print(acme.PrivateKey.parse({ec.read_text()!r}).thumbprint)
        except acme.CryptoError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
        env={**os.environ, "OPENSSL_CONF": configuration},
    )  # fmt: skip
    *lines, last = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 6, (done.stdout, done.stderr)
    assert all(map(names_the_cause, lines)), lines
    # Where OpenSSL still reads the key, everything that is computed of it is right.
    assert names_the_cause(last) or last == acme.PrivateKey.load(ec).thumbprint


def test_s19_r11_the_command_names_the_missing_provider(configuration, person):
    person.environment["OPENSSL_CONF"] = configuration
    run = person.obtains("-d", "r11.test", "--hook", "true", status=7)
    assert names_the_cause(run.err) and "Traceback" not in run.err
    run = person.runs("obtain", *person.ca, "-d", "r11.test", "--hook", "true", "--json", status=7)
    assert run.json["error"]["kind"] == "crypto"
    assert not person.folder.exists()


def test_s19_r11_a_stored_account_and_a_missing_provider(configuration, person):
    person.runs("account", "create", *person.ca, "--agree-terms")
    before = {path: path.read_bytes() for path in person.folder.rglob("*") if path.is_file()}
    person.environment["OPENSSL_CONF"] = configuration
    process = person.start("account", "show")
    text = "".join(process.communicate(timeout=60))
    assert process.returncode != 1 and "Traceback" not in text
    process = person.start("obtain", "-d", "r11.test", "--hook", "true")
    text = "".join(process.communicate(timeout=60))
    assert process.returncode in (3, 7) and names_the_cause(text), (process.returncode, text)
    assert {path: path.read_bytes() for path in before} == before


def test_s19_r11_a_stored_certificate_and_a_missing_provider(configuration, person):
    person.runs("account", "create", *person.ca, "--agree-terms")
    key = person.path("r11.test.key.pem")
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key))
    key.chmod(0o600)
    person.has_certificate("r11.test")
    person.environment["OPENSSL_CONF"] = configuration
    process = person.start("show", "--offline")
    out, err = process.communicate(timeout=60)
    if process.returncode:
        assert process.returncode == 7 and names_the_cause(err) and names_the_cause(out)
    assert "match" not in out and "another key" not in err and "Traceback" not in err


def test_s19_r11_a_damaged_key_of_the_command_line_is_wrong_usage(person, tmp_path):
    certificate = tmp_path / "chain.pem"
    for algorithm, option in (("EC", "ec_paramgen_curve:P-256"), ("RSA", "rsa_keygen_bits:2048")):
        key, damaged = tmp_path / f"{algorithm}.pem", tmp_path / f"{algorithm}.der"
        openssl("genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", str(key))
        openssl("req", "-x509", "-key", str(key), "-subj", "/CN=a.test", "-out", str(certificate))
        der = key.with_suffix(".whole")
        openssl("pkey", "-in", str(key), "-outform", "DER", "-out", str(der))
        for place in range(30, len(der.read_bytes()), 37):
            content = bytearray(der.read_bytes())
            content[place] ^= 0x55
            damaged.write_bytes(content)
            process = person.start(
                "revoke", *person.ca, "--cert", str(certificate), "--key", str(damaged), "--json"
            )
            out, err = process.communicate(timeout=60)
            assert "Traceback" not in err and str(damaged) in err, err
            assert process.returncode == 2 and json.loads(out)["error"]["kind"] == "usage"


def test_s19_r11_an_error_of_openssl_is_no_bug():
    with pytest.raises(acme.CryptoError) as caught:
        acme.PrivateKey.parse_encrypted(encrypted(), "wrong")
    assert kind_of(caught.value) == ("crypto", 7)
    assert isinstance(caught.value, acme.AcmeError)
    assert caught.value.status == acme.Status.ERR_CRYPTO


def encrypted() -> str:
    return openssl("genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:right")


@pytest.mark.parametrize("curve", ["prime256v1", "secp384r1"])
def test_s18_r12_a_key_with_explicit_parameters_is_certified(client, standalone, tmp_path, curve):
    path = explicit_key(tmp_path, curve)
    der = tmp_path / "key.der"
    openssl("pkey", "-in", str(path), "-outform", "DER", "-out", str(der))
    public = openssl("pkey", "-in", str(path), "-pubout", "-outform", "PEM")
    for key in acme.PrivateKey.load(path), acme.PrivateKey.load(der):
        csr = acme.SigningRequest.create(key, ["r12.test"])
        text = openssl("req", "-noout", "-text", "-in", written(tmp_path, csr.der), "-inform", "DER")
        assert f"ASN1 OID: {curve}" in text and "prime-field" not in text
        assert "ASN1 OID" in openssl("pkey", "-noout", "-text", input=key.pem)
    cert = client.obtain(["r12.test"], standalone, key=key)
    outside = acme.PrivateKey.from_public(public)
    signed = client.obtain(
        ["r12.test"], standalone, key=outside, sign=lambda step: sign(path, step.input, tmp_path)
    )
    for one in cert, signed:
        assert f"ASN1 OID: {curve}" in openssl("x509", "-noout", "-text", input=one.chain_pem)


def written(folder: Path, content: bytes) -> str:
    path = folder / "written"
    path.write_bytes(content)
    return str(path)


def sign(key: Path, data: bytes, folder: Path) -> bytes:
    """Signs as an HSM does: with the key's own curve parameters."""
    digest = "-sha384" if "384" in key.name else "-sha256"
    signature = folder / "signature"
    openssl("dgst", digest, "-sign", str(key), "-out", str(signature), written(folder, data))
    return signature.read_bytes()


def test_s18_r12_an_account_key_with_explicit_parameters(tmp_path):
    key = acme.PrivateKey.load(explicit_key(tmp_path))
    with acme.Client(
        env("ACME_DIRECTORY"), key, terms_agreed=True, ca_file=env("ACME_CA_FILE")
    ) as client:
        client.register()
        assert client.account_url


def test_s18_s06_r12_r30_requests_that_cas_refuse_are_refused_before_an_order(tmp_path):
    keys = [explicit_key(tmp_path)]
    for name, *options in (
        ("rsa1024", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"),
        ("k1", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
        ("p224", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"),
        ("brainpool", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP384r1"),
    ):
        keys.append(tmp_path / name)
        openssl("genpkey", "-algorithm", *options, "-out", str(keys[-1]))
    for key in keys:
        request = openssl(
            "req", "-new", "-key", str(key), "-subj", "/", "-addext", "subjectAltName=DNS:r30.test"
        )
        with pytest.raises(acme.Unsupported, match="key"):
            acme.SigningRequest.parse(request)
    for weak in keys[1:]:
        with pytest.raises(acme.Unsupported):
            acme.PrivateKey.load(weak)


def test_o37_r22_a_request_with_a_common_name_only(client, tmp_path):
    key = tmp_path / "key.pem"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key))

    def request(subject: str) -> acme.SigningRequest:
        return acme.SigningRequest.parse(openssl("req", "-new", "-key", str(key), "-subj", subject))

    for names in ([], ["r22.test"], ["R22.test."]):
        client.begin_order(names, csr=request("/O=Example/CN=r22.test")).close()
    for subject, names, words in (
        ("/O=Example", [], "no subjectAltName"),
        ("/O=Example", ["r22.test"], "no subjectAltName"),
        ("/CN=192.0.2.1", [], "no subjectAltName"),
        ("/CN=Example Inc", [], "Example Inc"),
        ("/CN=other.test", ["r22.test"], "not the names of the order"),
    ):
        with pytest.raises(acme.InvalidArgument, match=words):
            client.begin_order(names, csr=request(subject))


