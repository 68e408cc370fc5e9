"""The addresses in the network namespace."""

INTERNAL = "127.0.0.1"  # where Boulder's parts meet

# Boulder validates no address that IANA has reserved, and has no limit of its own for one. So these
# are from Let's Encrypt's network, as in Boulder's own tests. The namespace has no way out.
CA = "64.112.117.1"
WEB = "64.112.117.2"  # the names' web server
WEB_WITHOUT_SERVER = "64.112.117.3"

# The same CA. A client that connects to an address of this machine has that address itself, so
# here another client is seen, to which the general limits apply.
CA_OF_FEW_ACCOUNTS = "10.77.0.2"
