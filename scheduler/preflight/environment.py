"""The names, files and JSON that settings are given by."""

from __future__ import annotations

import difflib
import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

from scheduler.config import Ec2Settings, Settings
from scheduler.preflight.finding import EC2_PREFIX, PREFIX, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Variables of other programs of Simherd, which one environment may hold as well: the client's, an
#: executor's, a task's, the scripts'.
_OTHERS = frozenset(
    f"{PREFIX}{name}"
    for name in (
        *("API_KEY", "API_URL", "OUTPUT_DIR", "TRACEBACK", "SECRETS_DIR"),
        *("DISK_RESERVE_BYTES", "SPOT_NOTICES", "STAGE_AHEAD", "STATE_DIR", "TICKET_FILE"),
        *("ATTEMPT", "CHECKPOINT_DIR", "DEADLINE", "METRICS_FILE", "RESTORED", "TASK_ID"),
        *("IMAGE", "REDIS_PASSWORD", "REQUIRE_ALL", "RUN", "TEST_MACHINE_IMAGE", "TOKEN"),
    )
)
#: How alike, of 1, a name must be for it to be what was meant.
_ALIKE = 0.7
#: Container engines mount secrets here, for the processes of one container alone.
_CONTAINER_SECRETS = Path("/run/secrets")


def of_environment(env: Mapping[str, str]) -> Iterator[Finding]:
    """What is wrong with how settings are given, whatever their values."""
    yield from _names(env)
    yield from _values(env)
    yield from _secret_files(env)


def of_secrets_dir(env: Mapping[str, str]) -> Iterator[Finding]:
    """A folder of secrets that does not exist or cannot be read."""
    folder = _secrets_dir(env)
    if folder is None:
        return
    says = ""
    if not os.path.isdir(folder):
        is_other = os.path.exists(folder)
        says = f"{folder} is not a folder" if is_other else f"there is no folder {folder}"
    elif not os.access(folder, os.R_OK | os.X_OK):
        says = f"this account cannot read {folder}"
    if says:
        says += ". Name a folder of files such as simherd_signing_key, or unset it"
        yield Finding(f"{PREFIX}SECRETS_DIR", says, True)


def _secrets_dir(env: Mapping[str, str]) -> Path | None:
    given = env.get(f"{PREFIX}SECRETS_DIR")
    return Path(given) if given else None


def _files(env: Mapping[str, str]) -> list[Path]:
    """The files of settings in the folder of secrets."""
    folder = _secrets_dir(env)
    if folder is None or not folder.is_dir():
        return []
    prefix = PREFIX.lower()
    return sorted(f for f in folder.iterdir() if f.name.lower().startswith(prefix))


def _names(env: Mapping[str, str]) -> Iterator[Finding]:
    """Names that nothing reads, and names that are given twice."""
    known = _OTHERS | {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    known |= {f"{EC2_PREFIX}{name.upper()}" for name in Ec2Settings.model_fields}
    in_env = [name for name in env if name.upper().startswith(PREFIX)]
    files = {file.name.upper(): file for file in _files(env)}
    for name in sorted({*(n.upper() for n in in_env), *files} - known):
        # Without what all of them begin with, which makes all of them alike.
        ends = [one.removeprefix(PREFIX) for one in known]
        nearest = difflib.get_close_matches(name.removeprefix(PREFIX), ends, 1, _ALIKE)
        meant = f" Did you mean {PREFIX}{nearest[0]}?" if nearest else ""
        # Not refused: the settings of a later release must not stop an earlier one.
        yield Finding(name, f"there is no such setting, and nothing reads it.{meant}", is_note=True)
    for name, count in Counter(n.upper() for n in in_env).items():
        if count > 1:
            spelt = ", ".join(sorted(n for n in in_env if n.upper() == name))
            yield Finding(name, f"it is set {count} times: {spelt}. Leave one of them", True)
    for name in sorted({n.upper() for n in in_env} & set(files)):
        says = f"it is set in the environment and in {files[name]}; the environment counts"
        yield Finding(name, says, is_note=True)


def _values(env: Mapping[str, str]) -> Iterator[Finding]:
    """JSON in which a key stands twice: of its two values one would be silently lost."""
    for prefix, kind in ((PREFIX, Settings), (EC2_PREFIX, Ec2Settings)):
        for field, info in kind.model_fields.items():
            name = f"{prefix}{field.upper()}"
            given = next((v for n, v in env.items() if n.upper() == name), None)
            if given is None or get_origin(info.annotation) is not dict:
                continue
            twice = _keys_given_twice(given)
            if twice:
                says = f"its JSON names {', '.join(map(repr, twice))} more than once"
                yield Finding(name, f"{says}. Leave one of each", True)


def _keys_given_twice(text: str) -> list[str]:
    twice: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        counted = Counter(key for key, _ in found)
        twice.extend(key for key, count in counted.items() if count > 1)
        return dict(found)

    json.loads(text, object_pairs_hook=pairs)
    return twice


def _secret_files(env: Mapping[str, str]) -> Iterator[Finding]:
    """Files of secrets that every account of this host may read or change."""
    folder = _secrets_dir(env)
    if folder is None or folder.resolve() == _CONTAINER_SECRETS:
        return
    if not stat.S_IMODE(folder.stat().st_mode) & 0o011:
        return  # nobody else comes as far as the files
    for file in _files(env):
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o027:
            says = f"{file} has mode {mode:04o}, so that other accounts of this host can read it"
            yield Finding(file.name.upper(), f"{says}. Do: chmod 600 {file}")
