"""Names that the shell completes from the server: soon or not at all, and never with an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

from simherd.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Callable

    import click

#: Seconds that somebody who pressed Tab waits at the most.
_PATIENCE_S = 1.5
#: A shell puts a completed name on the line as it is: one with a quote, a `$(…)` or a line feed in
#: it is not offered, because its owner may be somebody else.
_PLAIN = re.compile(r"[\w .@%+=:,/-]*")
#: Tasks that are offered, the newest ones.
_TASKS = 100


def task_ids(_ctx: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Ids of the last tasks, with their statuses."""
    return _offers(
        typed,
        lambda: [
            (t["task_id"], f"{t['status_alias']}, {t['simulator']}")
            for t in _ask("/tasks", per_page=_TASKS)["tasks"]
        ],
    )


def groups(_ctx: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names of the machine groups, with their statuses."""
    return _offers(typed, lambda: [(g["name"], g["status"]) for g in _ask("/compute/groups")])


def projects(_ctx: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names of the projects, with how many tasks they have."""
    return _offers(
        typed, lambda: [(p["name"], f"{p['num_tasks']} tasks") for p in _ask("/projects")]
    )


def machine_types(_ctx: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names of the machine types, with what they have."""
    return _offers(
        typed,
        lambda: [
            (t["machine_type"], f"{t['num_vcpus']} vCPUs, {t['ram_gb']} GiB")
            for t in _ask("/pricing/machine-types", spot=False)
        ],
    )


def _offers(typed: str, ask: Callable[[], list[tuple[str, str]]]) -> list[CompletionItem]:
    try:
        rows = ask()
    except Exception:
        # A shell that is completing a line is not a place for errors, whatever the server returns.
        return []
    return [
        CompletionItem(name, help=visible_line(said))
        for name, said in rows
        if name.startswith(typed) and _PLAIN.fullmatch(name)
    ]


def _ask(path: str, **params: Any) -> Any:
    import httpx

    from simherd.config import read_connection

    connection = read_connection()
    response = httpx.get(
        f"{connection.url}{path}",
        params=params,
        headers={"X-API-Key": connection.key},
        timeout=_PATIENCE_S,
    )
    return response.raise_for_status().json()
