#!/usr/bin/env python3
"""A hook for the command: it publishes challenges in the web server's folder or the DNS server.

    hook.py WEBROOT [PART]...

http-01 is a file in WEBROOT, dns-01 a record. When a challenge is published, the hook ends the PARTs of
Boulder, which restart after 5 seconds. So these parts are down when the response to the challenge arrives.
"""

import os
import signal
import sys
from pathlib import Path

import names

root, *parts = sys.argv[1:]
publish = os.environ["ACME_ACTION"] == "publish"
if os.environ["ACME_TYPE"] == "dns-01":
    if publish:
        names.set_txt(os.environ["ACME_DNS_NAME"], os.environ["ACME_DNS_VALUE"])
    else:
        names.clear_txt(os.environ["ACME_DNS_NAME"])
else:
    file = Path(root) / os.environ["ACME_HTTP_PATH"].lstrip("/")
    if publish:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(os.environ["ACME_HTTP_BODY"])
    else:
        file.unlink(missing_ok=True)
for part in parts if publish else ():
    os.kill(int((Path(os.environ["BOULDER_PIDS"]) / part).read_text()), signal.SIGKILL)
