"""Boulder's configuration: the tasks of each part, and the addresses of the others."""

from __future__ import annotations

import json
from pathlib import Path

import limits
import addresses
from hierarchy import INTERMEDIATES, LOGS, NAME, Hierarchy
from addresses import INTERNAL

# In the namespace all ports are free. The ACME server does not use 443, which is for programs under test.
PORTS = {
    "acme": 4431,
    "sa": 9001,
    "publisher": 9002,
    "va": 9003,
    "ca": 9004,
    "ra": 9005,
    "ra-for-scts": 9006,
    "nonce-1": 9007,
    "nonce-2": 9008,
    "remoteva-1": 9011,
    "remoteva-2": 9012,
    "remoteva-3": 9013,
    "sfe": 9080,
    "acme-http": 9081,
    "log-a": 9101,
    "log-b": 9102,
    "mariadb": 3306,
    "redis": 6379,
    "service-dns": 53,
    "challenge-dns": 8053,
    "challenge-doh": 8443,
    "challtestsrv": 8055,
}

# The Baseline Requirements ask for three networks of two registries.
PERSPECTIVES = {"remoteva-1": "ARIN", "remoteva-2": "RIPE", "remoteva-3": "ARIN"}

CAA_IDENTITY = "ca.example.com"

# Let's Encrypt's profiles: lifetime of a certificate, number and types of its names.
PROFILES = {
    "classic": ("2160h", 100, ["dns"]),
    "tlsserver": ("1080h", 25, ["dns"]),
    "shortlived": ("160h", 25, ["dns", "ip"]),
}

DATABASES = {"boulder_sa_next": "sa", "incidents_sa_next": "incidents_sa"}  # and the part that uses each

# As at Let's Encrypt: the servers do not know a changed account key for this long.
ACCOUNT_CACHE_TTL = "5s"

LOG = {"stdoutLevel": 6, "syslogLevel": -1}


def address(part: str, host: str = INTERNAL) -> str:
    return f"{host}:{PORTS[part]}"


def url(host: str) -> str:
    return f"https://{address('acme', host)}"


class Configuration:
    """A folder with a file for each of Boulder's parts: ``PART.json``."""

    def __init__(self, folder: Path, keys: Hierarchy):
        self.folder = folder
        self.keys = keys
        folder.mkdir()
        self.limits = self.write_limits()
        self.policy = self.write("policy.yml", policy())
        self.log_list = self.write(
            "logs.json", keys.log_list({log: f"http://{address(log)}" for log in LOGS})
        )
        self.write("ct-test-srv.json", self.ct_test_srv())
        self.write("sa.json", {"sa": self.sa(), "syslog": LOG})
        self.write("publisher.json", {"publisher": self.publisher(), "syslog": LOG})
        for part in PERSPECTIVES:
            self.write(f"{part}.json", {"rva": self.remoteva(part), "syslog": LOG})
        self.write("va.json", {"va": self.va(), "syslog": LOG})
        self.write("ca.json", {"ca": self.ca(), "pa": PA, "syslog": LOG})
        for part in ("ra", "ra-for-scts"):
            self.write(f"{part}.json", {"ra": self.ra(part), "pa": PA, "syslog": LOG})
        for part in ("nonce-1", "nonce-2"):
            self.write(f"{part}.json", {"NonceService": self.nonce(part)})
        self.write("wfe.json", {"wfe": self.wfe(), "syslog": LOG})
        self.write("sfe.json", {"sfe": self.sfe(), "syslog": LOG})
        self.write("admin.json", {"admin": self.admin(), "syslog": LOG})

    def write(self, name: str, content: object) -> str:
        """Writes JSON, which is also YAML."""
        path = self.folder / name
        path.write_text(json.dumps(content, indent=2))
        return str(path)

    def path(self, part: str) -> str:
        return str(self.folder / f"{part}.json")

    # --- settings of several parts ----------------------------------------------------------------

    def tls(self) -> dict[str, str]:
        return {
            "caCertFile": self.keys.path("https-ca.pem"),
            "certFile": self.keys.path("part.pem"),
            "keyFile": self.keys.path("part.key"),
        }

    def served(self, part: str, *services: str, **more: object) -> dict[str, object]:
        """The server settings of a part. The other parts all use one client certificate."""
        clients = {"clientNames": [NAME]}
        return {
            "tls": self.tls(),
            "grpc": {
                "address": address(part),
                "maxConnectionAge": "30s",
                "services": {each: clients for each in (*services, "grpc.health.v1.Health")},
            },
            **more,
        }

    def chains(self) -> list[list[str]]:
        return [
            [self.keys.path(f"{name}.pem"), self.keys.path("root.pem")] for name in INTERMEDIATES
        ]

    def write_limits(self) -> dict[str, object]:
        return {
            "redis": {
                "username": "boulder",
                "passwordFile": self.keys.path("redis.password"),
                "shardAddrs": {"shard1": address("redis")},
                "tls": self.tls(),
            },
            "Defaults": self.write("limits.yml", limits.DEFAULTS),
            "Overrides": self.write("limit-overrides.yml", limits.OVERRIDES),
        }

    # --- the parts ------------------------------------------------------------------------------

    def ct_test_srv(self) -> dict[str, object]:
        return {
            "Personalities": [
                {"addr": address(log), "privKey": self.keys.log_key(log)} for log in LOGS
            ]
        }

    def sa(self) -> dict[str, object]:
        def database(name: str) -> dict[str, object]:
            connect = self.folder / f"{name}.dburl"
            connect.write_text(f"{DATABASES[name]}@tcp({address('mariadb')})/{name}")
            return {"dbConnectFile": str(connect), "maxOpenConns": 30}

        return self.served(
            "sa",
            "sa.StorageAuthority",
            "sa.StorageAuthorityReadOnly",
            db=database("boulder_sa_next"),
            incidentsDB=database("incidents_sa_next"),
        )

    def publisher(self) -> dict[str, object]:
        return self.served("publisher", "Publisher", userAgent="boulder", chains=self.chains())

    def validation(self, part: str, **more: object) -> dict[str, object]:
        return self.served(
            part,
            "va.VA",
            "va.CAA",
            userAgent=part,
            dnsTries=3,
            dnsTimeout="2s",
            dnsStaticResolvers=[address("challenge-doh")],
            issuerDomain=CAA_IDENTITY,
            accountURIPrefixes=[f"{url(addresses.CA)}/acme/acct/"],
            **more,
        )

    def remoteva(self, part: str) -> dict[str, object]:
        return self.validation(part, perspective=part, rir=PERSPECTIVES[part])

    def va(self) -> dict[str, object]:
        remotes = [
            {**service(part, "30s"), "perspective": part, "rir": rir}
            for part, rir in PERSPECTIVES.items()
        ]
        return self.validation("va", remoteVAs=remotes)

    def ca(self) -> dict[str, object]:
        served = self.served("ca", "ca.CertificateAuthority", "ca.CRLGenerator")
        served["grpcCA"] = served.pop("grpc")
        issuers = [
            {
                "profiles": list(PROFILES),
                "crlShards": 1,
                "issuerURL": f"http://{NAME}/{name}",
                "crlURLBase": f"http://{NAME}/{name}/crl/",
                "location": {
                    "file": self.keys.path(f"{name}.key"),
                    "certFile": self.keys.path(f"{name}.pem"),
                },
            }
            for name in INTERMEDIATES
        ]
        return {
            **served,
            "hostnamePolicyFile": self.policy,
            "sctService": service("ra-for-scts"),
            "saService": service("sa"),
            "issuance": {
                "certProfiles": {name: certificate_profile(name) for name in PROFILES},
                "crlProfile": {"validityInterval": "216h", "maxBackdate": "1h5m"},
                "issuers": issuers,
            },
            "serialPrefixHex": "6e",
            "goodkey": {},
            "ctLogListFile": self.log_list,
        }

    def ra(self, part: str) -> dict[str, object]:
        return self.served(
            part,
            "ra.RegistrationAuthority",
            "ra.SCTProvider",
            limiter=self.limits,
            hostnamePolicyFile=self.policy,
            goodkey={},
            issuerCerts=[self.keys.path(f"{name}.pem") for name in INTERMEDIATES],
            validationProfiles={name: validation_profile(name) for name in PROFILES},
            defaultProfileName=next(iter(PROFILES)),
            vaService=service("va", "60s"),
            caService=service("ca"),
            saService=service("sa"),
            publisherService=service("publisher"),
            # A second response to a challenge that is being validated is a conflict.
            features={"setAuthzProcessing": True},
            ctLogs={"stagger": "500ms", "logListFile": self.log_list, "sctLogs": list(LOGS)},
        )

    def nonce(self, part: str) -> dict[str, object]:
        return self.served(
            part,
            "nonce.NonceService",
            nonceHMACKey={"keyFile": self.keys.path("nonce.hmac")},
            syslog=LOG,
        )

    def wfe(self) -> dict[str, object]:
        nonces = {
            "dnsAuthority": address("service-dns"),
            "timeout": "15s",
            "hostOverride": NAME,
        }
        nonce = {"service": "nonce", "domain": NAME}
        return {
            "timeout": "30s",
            "shutdownStopTimeout": "5s",
            "listenAddress": address("acme-http"),
            "TLSListenAddress": f"0.0.0.0:{PORTS['acme']}",
            "serverCertificatePath": self.keys.path("part.pem"),
            "serverKeyPath": self.keys.path("part.key"),
            "subscriberAgreementURL": f"{url(addresses.CA)}/terms/v1",
            "directoryCAAIdentity": CAA_IDENTITY,
            "directoryWebsite": f"https://{NAME}/",
            "legacyKeyIDPrefix": f"https://{NAME}/reg/",
            "accountURIPrefix": f"{url(addresses.CA)}/acme/acct/",
            "goodkey": {},
            "tls": self.tls(),
            "raService": service("ra", "60s"),
            "saService": service("sa"),
            "getNonceService": {**nonces, "srvLookup": nonce},
            "redeemNonceService": {**nonces, "srvLookups": [nonce], "srvResolver": "nonce-srv-v2"},
            "nonceHMACKey": {"keyFile": self.keys.path("nonce.hmac")},
            "chains": self.chains(),
            "staleTimeout": "5m",
            "limiter": self.limits,
            "accountCache": {"size": 9000, "ttl": ACCOUNT_CACHE_TTL},
            "features": {"checkIdentifiersPaused": True},
            "certProfiles": {name: f"https://{NAME}/profiles#{name}" for name in PROFILES},
            "unpause": {
                "hmacKey": {"keyFile": self.keys.path("unpause.hmac")},
                "jwtLifetime": "336h",
                "url": f"https://{NAME}",
            },
        }

    def sfe(self) -> dict[str, object]:
        return {
            "listenAddress": address("sfe"),
            "timeout": "30s",
            "shutdownStopTimeout": "5s",
            "tls": self.tls(),
            "raService": service("ra"),
            "saService": service("sa"),
            "unpauseHMACKey": {"keyFile": self.keys.path("unpause.hmac")},
        }

    def admin(self) -> dict[str, object]:
        return {"tls": self.tls(), "raService": service("ra"), "saService": service("sa")}


PA = {
    "challenges": {"http-01": True, "dns-01": True, "tls-alpn-01": True},
    "identifiers": {"dns": True, "ip": True},
}


def service(part: str, timeout: str = "15s") -> dict[str, object]:
    """The client settings with which other parts reach this one."""
    return {"serverAddress": address(part), "timeout": timeout, "hostOverride": NAME}


def policy() -> dict[str, object]:
    """The names for which Boulder never issues; each list needs at least one."""
    return {
        "HighRiskBlockedNames": ["invalid", "local", "localhost", "test"],
        "ExactBlockedNames": ["blocked.example.com"],
    }


def validation_profile(name: str) -> dict[str, object]:
    _, names, kinds = PROFILES[name]
    return {
        "pendingAuthzLifetime": "168h",
        "validAuthzLifetime": "720h",
        "orderLifetime": "168h",
        "maxNames": names,
        "identifierTypes": kinds,
    }


def certificate_profile(name: str) -> dict[str, object]:
    lifetime, _, _ = PROFILES[name]
    modern = name != "classic"
    return {
        "omitCommonName": modern,
        "omitKeyEncipherment": modern,
        "omitClientAuth": True,
        "omitSKID": modern,
        "maxValidityPeriod": lifetime,
        "maxValidityBackdate": "1h5m",
        # The profiles differ from the recommendations in these points.
        "ignoredLints": [
            "w_subject_common_name_included",
            "w_ext_subject_key_identifier_not_recommended_subscriber",
            "w_ext_subject_key_identifier_missing_sub_cert",
        ],
    }
