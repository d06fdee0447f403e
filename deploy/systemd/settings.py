"""`settings.py FOLDER`: complete files of settings with their secrets.

For each `NAME.in` in the folder, `NAME` is written, mode 0600, in which every `<secret:ARN>` is the
text of that secret in AWS' Secrets Manager. Run as root by `simherd-settings.service`.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

#: `arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME`
_PLACE = re.compile(r"<secret:(arn:[\w-]+:secretsmanager:([\w-]+):\d+:secret:[^>\s]+)>")


@cache
def secret(arn: str, region: str) -> str:
    """The text of a secret."""
    manager: Any = boto3.client("secretsmanager", region_name=region)
    return str(manager.get_secret_value(SecretId=arn)["SecretString"])


def completed(text: str) -> str:
    """`text` with its secrets."""
    return _PLACE.sub(lambda found: secret(found[1], found[2]), text)


def write(path: Path, text: str) -> None:
    """Put `text` at `path` at once, for root alone."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def main() -> None:
    """Complete all files, or end with which one could not be."""
    for source in sorted(Path(sys.argv[1]).glob("*.in")):
        try:
            write(source.with_suffix(""), completed(source.read_text(encoding="utf-8")))
        except (BotoCoreError, ClientError) as error:
            sys.exit(f"{source}: {error}. May this host's role read the secrets that it names?")


if __name__ == "__main__":
    main()
