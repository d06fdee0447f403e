"""Writes what deploy/docker-compose.yml needs: .env, and a folder of passwords and keys.

    fleet_files.py FOLDER

What is there already stays. Variables of .env.example that are set in the environment go into the
new .env.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "deploy" / ".env.example"
SOCKET = Path("/var/run/docker.sock")
#: Also of an S3 server that takes a key of this form alone.
S3_KEY_ID = "simherd:fleet"
#: What a user of Redis may do besides reading and writing its keys. The scheduler makes users.
REDIS_ADMIN = "+info +acl|setuser +acl|deluser +acl|users"
#: Celery subscribes to a pattern, which Redis allows where it stands here as it is.
BROKER_CHANNELS = "&cel:* &cel:/1.celery.pidbox"


def main() -> None:
    """Write what is missing in the folder that the command line names."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".env").exists():
        write(folder / ".env", environment(folder))
    settings = dict(re.findall(r"^(\w+)=(.*)$", (folder / ".env").read_text(), re.MULTILINE))
    place = EXAMPLE.parent / settings["SECRETS_DIR"]
    if not place.exists():
        make_secrets(place)
    key = (place / "simherd_bootstrap_key").read_text()
    write(
        place / "connection.env",
        f"SIMHERD_API_URL={settings['PUBLIC_URL']}\nSIMHERD_API_KEY={key}\n",
    )


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
            f"{EXAMPLE.parent}. Set a name of its own, and ports (API_PORT, S3_PORT)."
        )
    project = values.get("COMPOSE_PROJECT_NAME")
    if project is not None:
        values.setdefault("MACHINES_DIR", f"/var/lib/simherd/{project}/machines")
    for name, port in (("PUBLIC_URL", "API_PORT"), ("S3_PUBLIC_URL", "S3_PORT")):
        if port in values:
            first = values[port].partition("-")[0]
            values.setdefault(name, f"http://127.0.0.1:{first}")
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
