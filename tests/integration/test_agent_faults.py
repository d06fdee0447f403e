"""What a machine may not do with its credentials, and what becomes of it when it tries."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from scheduler.queue.live_frames import BadFrame, read_frame
from scheduler.services.attempts.outputs import grant_of
from scheduler.services.attempts.record_report import Recording, Verdict
from scheduler.services.errors import GatewayTimeout
from scheduler.services.ids import new_uuid
from scheduler.services.machines.health import note_end
from scheduler.services.watch import live
from scheduler.store.machine_state import MACHINE_UP
from scheduler.store.models import MachineRow, RefusedChange, StatusChange, TaskRow
from simherd.contract import limits
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message
from simherd.contract.join import digest
from simherd.contract.lifecycle import Status
from simherd.contract.live_frames import FrameKind
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.reports import Report, ReportKind
from tests.support.api import serving
from tests.support.builders import make_group, make_task
from tests.support.cloud import open_fleet
from tests.support.runtime import REPORTED_AT, add_machine, make_runtime, recording
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime

FINISHED = {"cause": Cause.COMPLETED.value, "exit_code": 0}


@pytest.fixture
def rt(database_url: str, store: Store, redis_url: str, tmp_path: Path) -> Runtime:
    return make_runtime(database_url, redis_url, tmp_path)[0]


def add_task(rt: Runtime, **fields: Any) -> TaskRow:
    """A task that the machine `m1` of its group works on."""
    values = {
        "status": Status.STARTED.value,
        "attempt": 2,
        "start_time": 1.0,
        "machine_id": "m1",
        **fields,
    }
    with rt.store.write() as session:
        return make_task(session, make_group(session), **values)


def now(rt: Runtime, task: TaskRow) -> tuple[str, int, int]:
    with rt.store.read() as session:
        row = session.scalars(select(TaskRow).where(TaskRow.id == task.id)).one()
        return row.status, row.attempt, row.last_event


def record(rt: Runtime, task: TaskRow, *events: Report) -> list[Verdict]:
    """What becomes of reports in the stream of the task's group."""
    with rt.store.write() as session:
        recording = Recording(session, task.group_id, {"m1", "m2"}, {})
        verdicts = [recording.record(event).verdict for event in events]
        recording.finish()
    return verdicts


@pytest.mark.fault("B18")
def test_reports_of_others_change_nothing(rt: Runtime) -> None:
    task, strangers = add_task(rt), add_task(rt)
    forged = {
        "an attempt that is over": Report(ReportKind.FINISHED, task.id, 1, 1, 5.0, "m1", FINISHED),
        "an attempt to come": Report(ReportKind.FINISHED, task.id, 3, 1, 5.0, "m1", FINISHED),
        "a task that is not there": Report(ReportKind.FINISHED, "none", 2, 1, 5.0, "m1", FINISHED),
        "another group's task": Report(
            ReportKind.FINISHED, strangers.id, 2, 1, 5.0, "m1", FINISHED
        ),
    }
    # Who sends the first two is told to stop what it takes to be its own.
    verdicts = record(rt, task, *forged.values())
    assert verdicts == [Verdict.FENCED, Verdict.FENCED, Verdict.FOREIGN, Verdict.FOREIGN]
    foreign = Report(ReportKind.FINISHED, task.id, 2, 1, 5.0, "m2", FINISHED)
    assert record(rt, task, foreign) == [Verdict.FOREIGN]
    for one in (task, strangers):
        assert now(rt, one) == (Status.STARTED, 2, 0)


@pytest.mark.fault("B18")
def test_the_holder_does_not_notice_a_forged_report(rt: Runtime) -> None:
    holder, neighbour = new_uuid(), new_uuid()
    task = add_task(rt, status=Status.COMPUTATION_ENDED.value, machine_id=holder)
    for machine in (holder, neighbour):
        add_machine(rt, task.group_id, machine)
    keys, client = GroupKeys(task.group_id), rt.queue.servers.of(task.group_id)
    client.hset(keys.lease(f"{task.id}:2"), mapping={"holder": holder, "token": "t"})
    body = FINISHED
    with recording(rt):
        for executor in (neighbour, holder):
            event = Report(ReportKind.FINISHED, task.id, 2, 1, REPORTED_AT, executor, body)
            client.xadd(keys.events, {"e": event.encode()})
            body = {"cause": Cause.NONZERO_EXIT.value, "exit_code": 3}
        until(lambda: now(rt, task)[0] == Status.FAILED, what="the holder's own report")
    # It was neither revoked nor told to stop.
    assert client.hget(keys.lease(f"{task.id}:2"), "token") == "t"
    assert client.xlen(keys.inbox(holder)) == 0


@pytest.mark.fault("B18", "B21")
def test_a_report_drains_no_machine_of_another_group(rt: Runtime) -> None:
    task, strangers = add_task(rt), add_task(rt)
    with rt.store.write() as session:
        session.add(
            MachineRow(
                id="theirs",
                group_id=strangers.group_id,
                name="theirs",
                status=MACHINE_UP,
                handle={},
                created_at=0.0,
                failures="a b",
            )
        )
    with rt.store.write() as session:
        for cause in (Cause.AGENT_ERROR, Cause.COMPLETED):
            assert not note_end(session, task.group_id, "theirs", "c", cause)
        assert session.get_one(MachineRow, "theirs").failures == "a b"
        assert note_end(session, strangers.group_id, "theirs", "c", Cause.AGENT_ERROR)


JUMPS: dict[str, tuple[Status, str | None, ReportKind, dict[str, Any]]] = {
    "queued to success": (Status.SUBMITTED, None, ReportKind.FINISHED, FINISHED),
    "queued to the end of the computation": (
        Status.SUBMITTED,
        None,
        ReportKind.COMPUTATION_ENDED,
        {},
    ),
    "back to started": (Status.COMPUTATION_STARTED, "m1", ReportKind.STARTED, {}),
    "after the end": (Status.SUCCESS, "m1", ReportKind.COMPUTATION_STARTED, {}),
    "after the end, another end": (
        Status.FAILED,
        "m1",
        ReportKind.FINISHED,
        {"cause": Cause.COMPLETED.value},
    ),
}


@pytest.mark.fault("B19")
@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_of_the_status_is_refused(rt: Runtime, jump: str) -> None:
    status, machine, kind, body = JUMPS[jump]
    start = 1.0 if machine else None
    task = add_task(rt, status=status.value, machine_id=machine, start_time=start)
    (verdict,) = record(rt, task, Report(kind, task.id, 2, 1, 5.0, "m1", body))
    assert now(rt, task)[:2] == (status, 2)
    with rt.store.read() as session:
        history = session.scalars(
            select(StatusChange.status).where(StatusChange.task_id == task.id)
        )
        assert list(history) == [status]
        refused = session.scalar(select(RefusedChange).where(RefusedChange.task_id == task.id))
    # Either way it is noted: as a change that was refused, or by the order to stop.
    assert (refused is not None) or verdict is Verdict.FENCED


FIELDS = ("file", "text", "start", "offset", "skipped", "anew", "entries", "entry", "size", "code")


def _values() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@pytest.mark.fault("B20")
@given(
    st.sampled_from([kind.value for kind in FrameKind] + ["none"]),
    st.dictionaries(
        st.sampled_from(
            [
                "file",
                "text",
                "start",
                "offset",
                "skipped",
                "anew",
                "entries",
                "entry",
                "number",
                "size",
                "code",
            ]
        ),
        _values(),
    ),
)
def test_a_frame_is_as_it_must_be_or_refused(kind: str, body: dict[str, Any]) -> None:
    try:
        frame = read_frame(json.dumps({"kind": kind, **body}))
    except BadFrame:
        return
    json.dumps(frame.body, allow_nan=False).encode()
    if frame.kind is FrameKind.TEXT:
        assert 0 <= frame.body["start"] <= frame.body["offset"] < 2**63
        frame.body["text"].encode()


ENTRY = {"name": "a", "kind": "file", "size": 1, "modified_at": 1.0}
LIST_END = {"kind": "end", "truncated": False}


def entries(**changed: Any) -> dict[str, Any]:
    return {"kind": "entries", "entries": [{**ENTRY, **changed}]}


#: What a machine writes instead of an answer to the question for its list of files.
BROKEN: dict[str, list[Any]] = {
    "not JSON": ["{"],
    "binary": ["\0\x1b[2J"],
    "nested deeply": ["[" * 100_000],
    "not an object": ["[]"],
    "half of a character": [
        {"kind": "text", "file": "x", "text": "\ud800", "start": 0, "offset": 1},
    ],
    "unknown kind": [{"kind": "none"}],
    "no entries": [{"kind": "entries"}],
    "an entry without a size": [{"kind": "entries", "entries": [{"name": "a"}]}],
    "a size that is not a number": [
        {"kind": "entries", "entries": [{**ENTRY, "size": float("nan")}]}
    ],
    "a time without end": [
        {"kind": "entries", "entries": [{**ENTRY, "modified_at": float("inf")}]}
    ],
    "a name of a megabyte": [entries(name="n" * 2**20)],
    "a path of 5,000 folders": [entries(name="d/" * 2000)],
    "too many entries": [{"kind": "entries", "entries": [ENTRY] * (limits.LIVE_MAX_ENTRIES + 1)}],
    "text of a file that was not asked for": [
        {"kind": "text", "file": "x", "text": "t", "start": 0, "offset": 1},
    ],
    "an offset before its start": [
        {"kind": "text", "file": "x", "text": "t", "start": 5, "offset": 1},
    ],
    "a text of a megabyte": [
        {"kind": "text", "file": "x", "text": "t" * 2**20, "start": 0, "offset": 2**20},
    ],
    "a slice of a petabyte": [{"kind": "slice", "number": 0, "size": 2**50}],
    "an unknown trouble": [{"kind": "error", "code": "none", "detail": "d"}],
}


async def answered(rt: Runtime, task: TaskRow, frames: list[Any]) -> Any:
    """What users are told while the machine answers their question with these frames."""
    asking = asyncio.create_task(live.list_files(rt, task))
    inbox, client = GroupKeys(task.group_id).inbox("m1"), rt.queue.servers.of(task.group_id)
    while not asking.done() and not client.xlen(inbox):
        await asyncio.sleep(0.01)
    if not asking.done():
        entries: Any = client.xrange(inbox)
        request = Message.decode(entries[0][1]["m"]).body["request"]
        stream = GroupKeys(task.group_id).live(request)
        for frame in frames:
            client.xadd(stream, {"f": frame if isinstance(frame, str) else json.dumps(frame)})
    try:
        return await asking
    finally:
        client.delete(inbox)


@pytest.fixture
def quick_rt(redis_url: str, tmp_path: Path) -> Runtime:
    """On SQLite alone: the answers are in Redis."""
    from scheduler.store.engine import migrate

    url = f"sqlite:///{tmp_path / 'simherd.db'}"
    migrate(url)
    return make_runtime(url, redis_url, tmp_path / "objects")[0]


@pytest.mark.fault("B20")
def test_an_impossible_response_is_reported_as_such(
    quick_rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = add_task(quick_rt, status=Status.COMPUTATION_STARTED.value)

    async def ask_all() -> None:
        for name, frames in BROKEN.items():
            with pytest.raises(GatewayTimeout) as refused:
                await answered(quick_rt, task, frames)
            assert "an invalid reply" in str(refused.value), name
        good = await answered(quick_rt, task, [entries(), LIST_END])
        assert good == {"source": "live", "entries": [ENTRY], "truncated": False}
        # One that does not end takes no more memory than a whole answer may.
        monkeypatch.setattr(live, "LIVE_ANSWER_BYTES", 200)
        with pytest.raises(GatewayTimeout, match="an invalid reply"):
            await answered(quick_rt, task, [entries()] * 9)

    asyncio.run(ask_all())


@pytest.fixture
def api(rt: Runtime) -> Iterator[httpx.Client]:
    with serving(rt) as url, httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        yield client


@pytest.mark.fault("B21")
def test_a_machine_is_of_the_group_that_its_ticket_says(
    database_url: str, store: Store, redis_url: str, tmp_path: Path
) -> None:
    fleet = open_fleet(database_url, redis_url, tmp_path)
    group, others = fleet.group(num_machines=1), fleet.group(num_machines=1)
    (mine,) = fleet.scale(group)
    token = fleet.cloud.plans[-1].ticket.token
    body = {"token": token, "secret_digest": digest("secret")}
    with serving(fleet.rt) as url, httpx.Client(base_url=url, trust_env=False) as client:
        for claimed in (
            {"group_id": others.id},
            {"machine_type": "n2-standard-128"},
            {"vcpus": 128},
            {"labels": {"shared": "true"}},
        ):
            answer = client.post("/v1/machines/join", json={**body, **claimed})
            assert answer.status_code == 422
            assert next(iter(claimed)) in answer.json()["detail"]
        member = client.post("/v1/machines/join", json=body).json()
    assert (member["group_id"], member["machine_id"]) == (group.id, mine.id)


def _attempt(rt: Runtime, task: TaskRow, number: int) -> tuple[str, dict[str, str]]:
    token = grant_of(rt, task.id, number).token
    return f"/v1/attempts/{task.id}/{number}", {"Authorization": f"Bearer {token}"}


OTHER_PATHS = (
    *("../1/output", "attempts/1/output.zip", "/etc/passwd", "output/../../1/output.zip", ""),
    *("checkpoint/../../x", f"checkpoint/{'g' * 64}", "live/../output", "live/x/0", "manifest\n"),
)


@pytest.mark.fault("B22")
def test_an_attempt_stores_below_its_own_path_alone(rt: Runtime, api: httpx.Client) -> None:
    task, strangers = add_task(rt), add_task(rt)
    base, mine = _attempt(rt, task, 2)
    signed = api.post(f"{base}/urls", json={}, headers=mine).json()
    assert all(f"{task.id}/attempts/2/" in url for url in signed.values())
    for name in OTHER_PATHS:
        for verb, body in (
            ("urls", {"objects": [name]}),
            ("begin", {"object": name}),
            ("stored", {"object": name}),
            ("drop", {"object": name}),
            ("complete", {"object": name, "upload": "u", "parts": [[1, "e"]]}),
        ):
            answer = api.post(f"{base}/{verb}", json=body, headers=mine)
            assert answer.status_code == 422, (name, verb)
            assert "object" in answer.json()["detail"]
    for path in ("../x", "/etc/passwd", "a/../../x", "a//b", "a\\b", "a\0b", "\x1b[2J"):
        saved = {"path": path, "size": 1, "mode": 0o644, "mtime_ns": 0, "sha256": "0" * 64}
        answer = api.post(f"{base}/checkpoint", json={"files": [saved]}, headers=mine)
        # A NUL is refused wherever it stands in a body.
        assert answer.status_code == (400 if "\0" in path else 422), answer.text
        assert "path" in answer.json()["detail"]
    # Its token opens no other attempt, and no other task.
    for other, number in ((task, 1), (task, 3), (strangers, 2)):
        answer = api.post(f"/v1/attempts/{other.id}/{number}/urls", json={}, headers=mine)
        assert answer.status_code == 403
    # One that is over stores nothing more.
    base, old = _attempt(rt, task, 1)
    for verb in ("urls", "begin", "checkpoints"):
        answer = api.post(f"{base}/{verb}", json={}, headers=old)
        assert answer.status_code == 409, verb
        assert "Stop it" in answer.json()["detail"]
