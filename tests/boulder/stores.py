"""Boulder's databases: MariaDB, with the schema from Boulder's own files, and Redis."""

from __future__ import annotations

import subprocess
from pathlib import Path

from configuration import PORTS, address
from hierarchy import Hierarchy
from addresses import INTERNAL
from with_pebble import StartError

# Boulder has two schemas, the present one and the next one. This is the next one: the present one does not
# support validations in progress.
SCHEMA = (
    "00-create-databases.sql",
    "01-boulder_sa_next.sql",
    "01-incidents_sa_next.sql",
    "01-mtcmeta_44947_4_1_0_44.sql",  # not used, but the users get rights in it
    "02-users_next.sql",
)

# The data does not have to survive a crash of the machine.
FAST = ["--skip-log-bin", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"]


def mariadb(folder: Path) -> list[str]:
    """The command that runs MariaDB with an empty data directory."""
    done = subprocess.run(
        ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={folder}",
         "--auth-root-authentication-method=normal", "--skip-test-db"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise StartError(f"mariadb-install-db failed: {done.stdout}{done.stderr}")
    return [
        "mariadbd", "--no-defaults", "--user=root", f"--datadir={folder}", *FAST,
        f"--socket={socket(folder)}", f"--pid-file={folder}/pid", f"--port={PORTS['mariadb']}",
        f"--bind-address={INTERNAL}", "--skip-name-resolve", "--max-connections=200",
    ]  # fmt: skip


def load_schema(folder: Path, schema: Path) -> None:
    """Creates Boulder's databases, tables and users."""
    for name in SCHEMA:
        file = schema / name
        done = subprocess.run(
            ["mariadb", "--no-defaults", "--user=root", f"--socket={socket(folder)}"],
            input=file.read_text(), capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode != 0:
            raise StartError(f"{file.name}: {done.stderr.strip()}")


def socket(folder: Path) -> Path:
    return folder / "socket"


def redis(folder: Path, keys: Hierarchy) -> list[str]:
    folder.mkdir()
    return [
        "redis-server", "--port", "0", "--tls-port", str(PORTS["redis"]), "--bind", INTERNAL,
        "--dir", str(folder), "--save", "", "--tls-cert-file", keys.path("part.pem"),
        "--tls-key-file", keys.path("part.key"), "--tls-ca-cert-file", keys.path("https-ca.pem"),
        "--user", "boulder", "on", "+@all", "~*", f">{Path(keys.path('redis.password')).read_text()}",
    ]  # fmt: skip
