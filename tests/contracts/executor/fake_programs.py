"""What the commands of the behaviour suite do, for the backend that runs scripts."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from executor.containers.base import Exit
from tests.support.fakes.containers import Reaction, Script

if TYPE_CHECKING:
    from executor.containers.base import ContainerSpec
    from tests.support.fakes.containers import Program

_LOOP = "while :; do sleep 0.01; done"
_CHILD = f"trap 'echo child saved' USR1; echo ready; {_LOOP}"


def _environment(spec: ContainerSpec) -> Script:
    variables = {"HOME": "/root", **spec.env}
    return Script(output="".join(f"{k}={v}\n" for k, v in variables.items()).encode())


def _printf(spec: ContainerSpec) -> Script:
    return Script(output="".join(f"[{text}]" for text in spec.argv[2:]).encode())


def _shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


PROGRAMS: dict[tuple[str, ...] | str, Program] = {
    "true": Script(),
    "sleep": Script(hangs=True),
    "env": _environment,
    "printf": _printf,
    "cat": lambda spec: Script(output=spec.stdin),
    "touch": lambda spec: Script(files={spec.argv[1]: ""}),
    ("echo", "theirs"): Script(output=b"theirs\n"),
    **{_shell(f"exit {code}"): Script(Exit(code)) for code in (0, 1, 3, 255)},
    _shell("kill -9 $$"): Script(Exit(137, signal.SIGKILL)),
    _shell("kill -SEGV $$"): Script(Exit(139, signal.SIGSEGV)),
    _shell("echo one; echo uno >&2"): Script(output=b"one\n", errors=b"uno\n"),
    _shell("echo two; echo due >&2"): Script(output=b"two\n", errors=b"due\n"),
    _shell("pwd; touch made"): lambda spec: Script(
        output=f"{spec.work_dir / spec.cwd}\n".encode(), files={"made": ""}
    ),
    _shell("head -c 3000000 /dev/zero; echo end >&2; exit 4"): Script(
        Exit(4), bytes(3_000_000), b"end\n"
    ),
    _shell(f"trap 'echo saved; exit 7' TERM; echo ready; {_LOOP}"): Script(
        output=b"ready\n", hangs=True, handlers={"SIGTERM": Reaction("saved\n", 7)}
    ),
    _shell(f"trap '' TERM; echo ready; {_LOOP}"): Script(
        output=b"ready\n", hangs=True, handlers={"SIGTERM": Reaction()}
    ),
    _shell(f"trap 'echo saved; exit 0' USR1; echo ready; {_LOOP}"): Script(
        output=b"ready\n", hangs=True, handlers={"SIGUSR1": Reaction("saved\n", 0)}
    ),
    ("sh", "-c", 'sh -c "$0"; exit 9', _CHILD): Script(
        output=b"ready\n", hangs=True, handlers={"SIGUSR1": Reaction("child saved\n")}
    ),
}
