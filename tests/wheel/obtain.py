"""A program with the installed package: obtains a certificate from the CA in the arguments."""

import ssl  # loads Python's own OpenSSL into the same process
import sys
from pathlib import Path

import acme_micro as acme

directory, port, name, chain, *ca_file = sys.argv[1:]
options = {"ca_file": ca_file[0]} if ca_file else {}
with acme.Client(directory, acme.PrivateKey.generate(), terms_agreed=True, **options) as ca:
    cert = ca.obtain([name], acme.Standalone(int(port)))
Path(chain).write_text(cert.chain_pem)

ssl.create_default_context()
print(Path(acme.__file__).parent)
(library,) = {line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps") if "libacme" in line}
print(library)
