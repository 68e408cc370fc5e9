"""Obtains one or many certificates with python-acme: see ../libraries.py.

The CA accepts every challenge, so none is published. As certbot does, the program responds to all challenges,
then polls the authorizations, then finalizes and polls the order.
"""

from __future__ import annotations

import datetime
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import josepy
from acme import challenges, client, crypto_util, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Number of threads, each with one order at a time.
THREADS = 16


def main() -> None:
    directory, ca_file, file, what, *rest = sys.argv[1:]
    acme = known_client(directory, ca_file, file)
    if what == "issue":
        issue(acme, rest)
        return
    count, how, prefix = rest
    names = [f"{prefix}{i}.test" for i in range(int(count))]
    with ThreadPoolExecutor(THREADS if how == "at-once" else 1) as pool:
        for _ in pool.map(lambda name: issue(acme, [name]), names):
            pass


def known_client(directory: str, ca_file: str, file: str) -> client.ClientV2:
    path = Path(file) if file != "-" else None
    kept = json.loads(path.read_text()) if path and path.exists() else None
    key = (
        josepy.JWKEC.json_loads(kept["key"]) if kept else josepy.JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
    )
    network = client.ClientNetwork(key, alg=josepy.ES256, user_agent="bench", verify_ssl=ca_file)
    acme = client.ClientV2(messages.Directory.from_json(network.get(directory).json()), network)
    if kept:
        network.account = messages.RegistrationResource.json_loads(kept["account"])
        return acme
    wanted = messages.NewRegistration.from_data(email="bench@example.org", terms_of_service_agreed=True)
    account = acme.new_account(wanted)
    if path:
        path.write_text(json.dumps({"key": key.json_dumps(), "account": account.json_dumps()}))
    return acme


def issue(acme: client.ClientV2, names: list[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    order = acme.new_order(crypto_util.make_csr(pem, names))
    for authorization in order.authorizations:
        for challenge in authorization.body.challenges:
            if isinstance(challenge.chall, challenges.HTTP01):
                acme.answer_challenge(challenge, challenge.response(acme.net.key))
    deadline = datetime.datetime.now() + datetime.timedelta(seconds=300)
    order = acme.poll_and_finalize(order, deadline)
    assert "-----BEGIN CERTIFICATE-----" in order.fullchain_pem


main()
