#!/usr/bin/env python3
"""One run of one peer for many certificates at once (f), beside a Pebble of its own: see work.py."""

from __future__ import annotations

import json
import os
import sys
import urllib.parse

from peers import PEERS, Ca
from work import HUNG_STATUS, Bench, Failed, Hung


def main() -> None:
    peer = next(peer for peer in PEERS if peer.name == sys.argv[1])
    url = urllib.parse.urlsplit(os.environ["ACME_DIRECTORY"])
    bench = Bench(url, Ca(os.environ["ACME_DIRECTORY"], os.environ["ACME_CA_FILE"]), 1)
    try:
        print(json.dumps(bench.once(peer, "f")))
    except Hung:
        raise SystemExit(HUNG_STATUS) from None
    except Failed as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
