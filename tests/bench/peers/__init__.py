"""The peers: the clients in the benchmark. Each has a small adapter here that makes it do the same work: a
module for a program, a program in a folder for a library.
"""

from __future__ import annotations

from .acme_tiny import AcmeTiny
from .adapter import Ca, Missing, Peer, Run
from .certbot import Certbot
from .dehydrated import Dehydrated
from .lego import Lego
from .libraries import LIBRARIES, OURS
from .uacme import Uacme

__all__ = ["OURS", "PEERS", "Ca", "Missing", "Peer", "Run"]

PEERS: list[Peer] = [*LIBRARIES, Lego(), Uacme(), Certbot(), AcmeTiny(), Dehydrated()]
