#!/usr/bin/env python3
"""Serves the files of this folder over HTTPS. The certificate obtains itself, and renews itself.

Change the name. The ports 80 and 443 of the name have to lead to this program.
"""

from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import acme_micro as acme

server = ThreadingHTTPServer(("", 443), SimpleHTTPRequestHandler)
with acme.Store("/var/lib/acme").client(acme.LETSENCRYPT, terms_agreed=True) as ca:
    with acme.Manager(ca, acme.Standalone(), on_event=print) as manager:
        manager.add(["example.org"])
        manager.start()
        # As a server; each connection's own thread does the handshake.
        server.socket = manager.ssl_context().wrap_socket(server.socket, True, False)
        server.serve_forever()
