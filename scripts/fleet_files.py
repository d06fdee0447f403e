"""Writes what deploy/docker-compose.yml needs: .env, and a folder of passwords and keys.

    fleet_files.py FOLDER

What is there already stays. Variables of .env.example that are set in the environment go into the
new .env.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

EXAMPLE = Path(__file__).parents[1] / "deploy" / ".env.example"
SOCKET = Path("/var/run/docker.sock")
#: A line of a .env.
SETTING = r"^(\w+)=(.*)$"
#: What clients trust where the reverse proxy's certificate was made here.
OWN_CERTIFICATE = "connection.pem"
#: Also of an S3 server that takes a key of this form alone.
S3_KEY_ID = "simherd:fleet"
#: What a user of Redis may do besides reading and writing its keys. The scheduler makes users, and
#: counts their connections.
REDIS_ADMIN = "+info +acl|setuser +acl|deluser +acl|users +client|list"
#: Celery subscribes to a pattern, which Redis allows where it stands here as it is.
BROKER_CHANNELS = "&cel:* &cel:/1.celery.pidbox"


def main() -> None:
    """Write what is missing in the folder that the command line names."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".env").exists():
        write(folder / ".env", environment(folder))
    settings = check(folder / ".env")
    place = EXAMPLE.parent / settings["SECRETS_DIR"]
    if not place.exists():
        make_secrets(place)
    if not (place / "proxy_certificate").exists():
        make_certificate(place, settings)
    key = (place / "simherd_bootstrap_key").read_text()
    connection = f"SIMHERD_API_URL={settings['PUBLIC_URL']}\nSIMHERD_API_KEY={key}\n"
    if (place / OWN_CERTIFICATE).exists():
        connection += f"SSL_CERT_FILE={place.resolve() / OWN_CERTIFICATE}\n"
    write(place / "connection.env", connection)


def check(file: Path) -> dict[str, str]:
    """The settings of a .env; what an older fleet's lacks is added."""
    text, example = file.read_text(), EXAMPLE.read_text()
    settings = dict(re.findall(SETTING, text, re.MULTILINE))
    missing = {n: v for n, v in re.findall(SETTING, example, re.MULTILINE) if n not in settings}
    if missing:
        more = "".join(f"{name}={value}\n" for name, value in missing.items())
        write(file, text.rstrip("\n") + "\n" + more)
        settings |= missing
    for name in ("PUBLIC_URL", "S3_PUBLIC_URL"):
        if not settings[name].startswith("https://"):
            sys.exit(
                f"fleet_files.py: {name}={settings[name]} in {file}: the reverse proxy in front of "
                "the fleet speaks TLS. Write https:// there."
            )
    if not settings["API_PORT"].isdigit():
        sys.exit(
            f"fleet_files.py: API_PORT={settings['API_PORT']} in {file}: one port is enough. The "
            "reverse proxy finds all API processes."
        )
    return settings


def make_certificate(place: Path, settings: dict[str, str]) -> None:
    """The reverse proxy's certificate and key: given ones, or made for the names in the URLs."""
    given = [os.environ.get(f"PROXY_{name}_FILE") for name in ("CERTIFICATE", "KEY")]
    certificate, key = place / "proxy_certificate", place / "proxy_key"
    if given[0] and given[1]:
        write(key, Path(given[1]).read_text(), mode=0o644)
        write(certificate, Path(given[0]).read_text(), mode=0o644)
        return
    urls = (settings["PUBLIC_URL"], settings["S3_PUBLIC_URL"])
    hosts = {"localhost", "127.0.0.1", *(urlsplit(url).hostname or "" for url in urls)} - {""}
    names = ",".join(sorted(f"{'IP' if is_address(h) else 'DNS'}:{h}" for h in hosts))
    new = place / "proxy_certificate.new"
    try:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "825"),
                *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=simherd"),
                *("-addext", f"subjectAltName={names}", "-keyout", str(key), "-out", str(new)),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        sys.exit("fleet_files.py: there is no openssl (apt-get install openssl).")
    except subprocess.CalledProcessError as error:
        sys.exit(f"fleet_files.py: openssl made no certificate for {names}: {error.stderr}")
    key.chmod(0o644)  # as the other secrets: the folder keeps it
    new.chmod(0o644)
    write(place / OWN_CERTIFICATE, new.read_text(), mode=0o644)
    new.replace(certificate)


def is_address(host: str) -> bool:
    """Whether a host is named by its address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def environment(folder: Path) -> str:
    """The text of a new .env."""
    text = EXAMPLE.read_text()
    names = re.findall(r"^(\w+)=", text, re.MULTILINE)
    values = {name: os.environ[name] for name in names if name in os.environ}
    values.setdefault("DOCKER_GID", str(SOCKET.stat().st_gid))
    values.setdefault("SECRETS_DIR", str(folder / "secrets"))
    if folder != EXAMPLE.parent and "COMPOSE_PROJECT_NAME" not in values:
        sys.exit(
            f"fleet_files.py: COMPOSE_PROJECT_NAME: a fleet in {folder} is another than the one in "
            f"{EXAMPLE.parent}. Choose another name and other ports (API_PORT, S3_PORT)."
        )
    project = values.get("COMPOSE_PROJECT_NAME")
    if project is not None:
        values.setdefault("MACHINES_DIR", f"/var/lib/simherd/{project}/machines")
        third, fourth = hashlib.sha256(project.encode()).digest()[:2]
        values.setdefault("FRONT_SUBNET", f"198.19.{third}.{fourth & 0xF0}/28")
    for name, port in (("PUBLIC_URL", "API_PORT"), ("S3_PUBLIC_URL", "S3_PORT")):
        if port in values:
            values.setdefault(name, f"https://127.0.0.1:{values[port]}")
    return "\n".join(_line(line, values) for line in text.splitlines()) + "\n"


def _line(line: str, values: dict[str, str]) -> str:
    name, equals, _ = line.partition("=")
    return f"{name}={values[name]}" if equals and name in values else line


def make_secrets(place: Path) -> None:
    """Make every password and key; the folder is there whole or not at all.

    The containers' users must read the files, each but those that the compose file gives it. From
    this machine's users the folder keeps them, which only its owner may enter.
    """
    scheduler, broker, database, s3 = (secrets.token_urlsafe(32) for _ in range(4))
    files = {
        "redis_users": redis_users(scheduler, broker),
        "postgres_password": database,
        "s3_keys": s3_keys(s3),
        "aws_credentials": (
            f"[default]\naws_access_key_id = {S3_KEY_ID}\naws_secret_access_key = {s3}\n"
        ),
        "simherd_database_url": f"postgresql+psycopg://simherd:{database}@postgres/simherd",
        "simherd_redis_url": f"redis://scheduler:{scheduler}@redis:6379/0",
        "simherd_broker_url": f"redis://broker:{broker}@redis:6379/1",
        "simherd_signing_key": secrets.token_urlsafe(32),
        "simherd_bootstrap_key": f"sh_{secrets.token_urlsafe(32)}",
    }
    new = place.with_name(f"{place.name}.new")
    new.mkdir(mode=0o700, exist_ok=True)
    for name, text in files.items():
        write(new / name, text, mode=0o644)
    new.rename(place)


def redis_users(scheduler: str, broker: str) -> str:
    """The users of Redis, each with no more than it needs. Passwords are there as SHA-256 alone."""
    data = "+@all -@admin -@dangerous"
    return (
        "user default off\n"
        "user health on nopass -@all +ping\n"
        f"user scheduler on #{digest(scheduler)} ~simherd:* &simherd:* {data} {REDIS_ADMIN}\n"
        f"user broker on #{digest(broker)} ~cel:* {BROKER_CHANNELS} {data}\n"
    )


def digest(password: str) -> str:
    """SHA-256, as Redis takes it."""
    return hashlib.sha256(password.encode()).hexdigest()


def s3_keys(secret: str) -> str:
    """Who may use the storage, in the form that SeaweedFS takes."""
    key = {"accessKey": S3_KEY_ID, "secretKey": secret}
    actions = ["Admin", "Read", "Write", "List"]
    return json.dumps(
        {"identities": [{"name": "simherd", "credentials": [key], "actions": actions}]}
    )


def write(file: Path, text: str, mode: int = 0o600) -> None:
    """A file that is there whole or not at all."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
        out.write(text)
    new.chmod(mode)
    new.replace(file)


main()
