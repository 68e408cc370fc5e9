"""The addresses in the network namespace."""

INTERNAL = "127.0.0.1"  # Boulder's parts listen here

# Boulder does not validate at addresses that IANA has reserved, and has no rate limits for them. So these
# addresses are from Let's Encrypt's network, as in Boulder's own tests. The namespace has no route to the
# outside.
CA = "64.112.117.1"
WEB = "64.112.117.2"  # the names' web server
WEB_WITHOUT_SERVER = "64.112.117.3"

# A second address of the same CA. A client that connects to an address of this machine has that address
# itself. So the CA sees another client here, and applies the general limits to it.
CA_OF_FEW_ACCOUNTS = "10.77.0.2"
