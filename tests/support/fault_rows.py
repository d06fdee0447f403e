"""The rows of docs/faults.md: bad input to API, agents' API, archives, storage and settings.

The numbers are those of the project's table of bad input, of which the rows about clients (23, 24),
containers and commands (32 to 43) and clocks (50) are not here: tests of executors show them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One kind of bad input, and what Simherd promises of it.

    `is_pending`: its tests are still to be written, by another change that is under way.
    """

    row: str
    where: str
    given: str
    holds: str
    is_pending: bool = False


_API = "API"
_AGENTS = "agents"
_ARCHIVE = "archive"
_STORAGE = "storage"
_SETTINGS = "settings"

FAULTS = (
    Fault("B1", _API, "a body without end", "413 after the limit, and no more memory than that"),
    Fault(
        "B2",
        _API,
        "JSON that is nested deeply, NaN, duplicate keys, huge numbers",
        "400 or 422 with the field, never 500",
    ),
    Fault("B3", _API, "unknown fields", "422 that names the field"),
    Fault(
        "B4",
        _API,
        "ids of another user's objects, on every route",
        "404 as for ids that do not exist; nothing is changed",
    ),
    Fault(
        "B5",
        _API,
        "no key, a wrong, revoked or expired one, a machine's on a user's route",
        "401 or 403",
    ),
    Fault(
        "B6",
        _API,
        "keys in a query, or with control characters",
        "400 or 401; no key is logged",
    ),
    Fault(
        "B7",
        _API,
        "connections that send slowly or nothing",
        "they are closed; others are served meanwhile",
    ),
    Fault(
        "B8",
        _API,
        "an Idempotency-Key twice",
        "the same answer for the same body, 409 for another one",
    ),
    Fault("B9", _API, "times-to-live of 0, less, without end", "422 with the field and the value"),
    Fault(
        "B10",
        _API,
        "resources that no machine of the group has",
        "422 when it is submitted",
    ),
    Fault(
        "B11",
        _API,
        "killing a task that has ended, is killed, or is not there",
        "409, 200 or 404; nothing else happens",
    ),
    Fault(
        "B12", _API, "page sizes, cursors and filters that cannot be", "422, or no rows; never SQL"
    ),
    Fault(
        "B13",
        _API,
        "a thousand requests a second with one key",
        "429 with Retry-After; other users do not notice",
    ),
    Fault(
        "B14",
        _API,
        "webhooks and URLs that lead inside",
        "refused, also where the name changes its address later or an answer leads on",
    ),
    Fault(
        "B15",
        _API,
        "webhooks whose answer has no end, or that fail",
        "cut after 64 KiB or 5 s; tried again for about a day, then given up",
    ),
    Fault(
        "B16",
        _API,
        "names and output with control characters, escape sequences, reversed text",
        "escaped on a terminal and in every log, on one line",
    ),
    Fault(
        "B17",
        _API,
        "paths with `..`, `%00`, encoded twice, of 10 kB",
        "404, 400 or 403",
    ),
    Fault(
        "B18",
        _AGENTS,
        "reports of an attempt that is over or unknown, or by a machine that does not hold it",
        "nothing changes; the sender gets the order to stop that attempt, and it is logged",
    ),
    Fault(
        "B19",
        _AGENTS,
        "a status out of order, backwards, or after the end",
        "the status stays; the refused change is counted",
    ),
    Fault(
        "B20",
        _AGENTS,
        "pieces of live files with wrong offsets, twice, huge, binary, without end",
        "text is sent once and in order, bytes that are not UTF-8 become U+FFFD; what is not of "
        "its form is a 503",
    ),
    Fault(
        "B21",
        _AGENTS,
        "a machine that claims another group, or more than its group's machines have",
        "its ticket decides; its user in Redis reaches its own group's keys alone",
    ),
    Fault(
        "B22",
        _AGENTS,
        "outputs and checkpoints under another attempt's path",
        "422; a token opens one attempt, and no more once that is over",
    ),
    Fault(
        "B25",
        _ARCHIVE,
        "`../`, absolute names, `C:`, backslashes, NUL",
        "the whole archive is refused, and nothing of it is on the disk",
    ),
    Fault(
        "B26",
        _ARCHIVE,
        "files through symlinks, links that lead out, hard links, loops",
        "refused. A symlink that leads to something inside is kept, as is a loop: nothing follows "
        "it. Zip has no hard links",
    ),
    Fault(
        "B27",
        _ARCHIVE,
        "devices, FIFOs, sockets, setuid, folders of mode 000",
        "special files are refused; setuid is dropped, folders can be entered",
    ),
    Fault(
        "B28",
        _ARCHIVE,
        "bombs, nested ones, members that share bytes, sizes that are not true",
        "refused, or stopped after the allowed number of real bytes; the message has the limit. "
        "Archives in archives stay closed",
    ),
    Fault(
        "B29",
        _ARCHIVE,
        "a million empty files, 5,000 folders deep, names of 300 bytes",
        "refused, with the limit, before anything is written",
    ),
    Fault(
        "B30",
        _ARCHIVE,
        "a name twice, names that differ in case or Unicode form alone",
        "twice is refused. The others are different files where the file system says so, which "
        "simulations rely on (`U` and `u`); where it does not, the archive is refused, and neither "
        "replaces the other",
    ),
    Fault(
        "B31",
        _ARCHIVE,
        "cut short, with something behind its end, zip64, encrypted",
        "a sentence, at once. Zip64 is read. No tar is read anywhere",
    ),
    Fault(
        "B44",
        _STORAGE,
        "keys with `..`, `//`, spaces at the end, 1,024 bytes, emoji, percent signs",
        "normalised, or 422; always below the user's own prefix",
    ),
    Fault(
        "B45",
        _STORAGE,
        "inputs that are deleted, replaced, emptied or too large after the submission",
        "the task ends with a sentence that names the input, after one attempt",
    ),
    Fault(
        "B46",
        _SETTINGS,
        "missing, unknown and duplicate names, wrong units, secrets that others can read",
        "the process does not start, with a line for each; unknown names and readable secrets are "
        "warnings",
    ),
    Fault(
        "B47",
        _SETTINGS,
        "times that contradict each other",
        "the process does not start; times that are not settings are compared by a test",
    ),
    Fault(
        "B48",
        _SETTINGS,
        "a Redis that evicts or has no append-only file, an old Python, no disk limits",
        "warnings, or refused by policy; an old Python is refused; a machine without room for what "
        "it must keep says so and does not start",
    ),
    Fault(
        "B49",
        _SETTINGS,
        "guessable keys and passwords, an open address without TLS, debug mode",
        "a weak signing key is refused; the others are warnings, or refused by policy",
    ),
)
ROWS = {fault.row: fault for fault in FAULTS}
