"""`run_attempt` over every cause, stage, and restart of the agent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from executor.attempt.recovery import Progress
from executor.attempt.run import STAGES, run_attempt, with_machines
from executor.containers.base import ContainerError, Exit, ImageUnavailable
from executor.containers.usage import Usage
from simherd.contract.attempt_spec import Command
from simherd.contract.cause import OUTCOMES, Cause
from simherd.contract.checkpoints import Checkpoints
from simherd.contract.objects import MANIFEST, OUTPUT
from simherd.contract.reports import ReportKind
from tests.conftest import REPOSITORY
from tests.support.fakes.attempt import KEY, Lab, archive, spec_of
from tests.support.fakes.containers import FakeBackend, Script

if TYPE_CHECKING:
    from pathlib import Path

    from executor.attempt.context import Attempt
    from executor.containers.base import ContainerSpec


class Crash(BaseException):
    """Ends an agent's work as SIGKILL does: nothing is reported after it."""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def run(lab: Lab, *, recovered: bool = False) -> dict[str, Any]:
    """Run the attempt and return its last report; it must be the only one of its kind."""
    run_attempt(lab.attempt(recovered=recovered))
    (body,) = lab.finished
    return body


#: What happens where, by the stage that it interrupts.
PREPARE, COMMANDS, OUTPUTS = "prepare", "commands", "outputs"


def hook(lab: Lab, stage: str, act: Any) -> None:
    """Have `act` called in the middle of a stage, once."""
    calls = iter([act])

    def once(*_: object) -> None:
        next(calls, lambda: None)()

    if stage == PREPARE:
        lab.storage.on_request = lambda name: once() if name == "input.zip" else None
    elif stage == COMMANDS:
        lab.engine.programs["simulate"] = Script(files={"result": "2"}, hangs=True, then=once)
    else:
        lab.storage.on_request = lambda name: once() if name == OUTPUT else None


def crash_in(lab: Lab, stage: str) -> None:
    """Let a first agent run, and crash in the middle of a stage."""
    snapshot: list[Any] = []

    def crash() -> None:
        # What follows is what a killed agent does not do any more.
        snapshot.append(
            (list(lab.reports.sent), {k: dict(v) for k, v in lab.reports.notes.items()})
        )
        raise Crash

    hook(lab, stage, crash)
    attempt = lab.attempt()
    object.__setattr__(attempt.volume, "close", lambda: None)
    containers: dict[str, Any] = {}

    def start(spec: ContainerSpec) -> Any:
        try:
            return FakeBackend.start(attempt.backend, spec)  # type: ignore[arg-type]
        except Crash:
            containers.update(lab.engine.containers)
            raise

    object.__setattr__(attempt.backend, "start", start)
    with pytest.raises(Crash):
        run_attempt(attempt)
    lab.reports.sent, notes = snapshot[0]
    lab.reports.notes.clear()
    lab.reports.notes.update(notes)
    lab.engine.containers.update(containers)
    lab.storage.on_request = None


def test_a_good_attempt(lab: Lab) -> None:
    body = run(lab)
    assert body["cause"] == "completed"
    assert body["exit_code"] == 0
    assert body["saved"] == {"outputs": True}
    assert lab.outputs == ["result", "stderr.txt", "stdout.txt"]
    assert lab.storage.stored == {OUTPUT: 1, MANIFEST: 1}
    assert sorted(lab.reports.operations(KEY)) == [
        ("compress_output", "OK"),
        ("download_container", "OK"),
        ("download_input", "OK"),
        ("exec_command", "OK"),
        ("uncompress_input", "OK"),
        ("upload_output", "OK"),
    ]
    kinds = [
        k for k in lab.reports.kinds(KEY) if "operation" not in k.value and k.value != "metrics"
    ]
    assert kinds == [
        ReportKind.STARTED,
        ReportKind.COMPUTATION_STARTED,
        ReportKind.COMPUTATION_ENDED,
        ReportKind.FINISHED,
    ]
    assert not lab.slots.all_taken
    assert not lab.engine.containers


#: Causes that stop an attempt from outside, and those of them after which nothing is uploaded.
STOPS = (
    Cause.KILLED_BY_USER,
    Cause.TASK_TIME_LIMIT,
    Cause.COST_LIMIT,
    Cause.GROUP_TIME_LIMIT,
    Cause.GROUP_IDLE,
    Cause.GROUP_TERMINATED,
    Cause.SPOT_RECLAIMED,
    Cause.MACHINE_LOST,
    Cause.CONTACT_LOST,
    Cause.AGENT_STOPPED,
    Cause.LEASE_LOST,
    Cause.DISK_LIMIT,
)
DROPS = {Cause.GROUP_TERMINATED, Cause.CONTACT_LOST, Cause.AGENT_STOPPED, Cause.LEASE_LOST}


def stop(attempt: Attempt, cause: Cause) -> None:
    if cause is Cause.SPOT_RECLAIMED:
        attempt.reclaim(time.time() + 60)
    else:
        attempt.stop(cause)


@dataclass(frozen=True)
class Expected:
    """What the last report and the storage say of a stopped attempt."""

    cause: Cause | None
    outputs: bool


def expected(cause: Cause, stage: str) -> Expected:
    if cause is Cause.LEASE_LOST:
        return Expected(None, outputs=False)
    if stage == PREPARE:
        return Expected(cause, outputs=False)
    if stage == OUTPUTS and cause is Cause.SPOT_RECLAIMED:
        # The upload has the time until the machine goes.
        return Expected(Cause.COMPLETED, outputs=True)
    return Expected(cause, outputs=cause not in DROPS)


def check(lab: Lab, want: Expected) -> None:
    """The attempt ended so, once, and nothing of it is left."""
    causes = [body["cause"] for body in lab.finished]
    assert causes == ([] if want.cause is None else [want.cause.value])
    # The manifest comes last.
    assert (MANIFEST in lab.storage.objects) is want.outputs
    if want.cause is not None:
        assert bool(lab.finished[0]["saved"].get("outputs")) is want.outputs
    assert not lab.engine.containers
    assert not lab.storage.uploads
    assert not (lab.folder / "disk" / "task-1").exists()


#: Where the first agent crashed, if it did, and where the attempt is stopped after that.
PLACES = [
    (None, PREPARE),
    (None, COMMANDS),
    (None, OUTPUTS),
    (PREPARE, PREPARE),
    (PREPARE, COMMANDS),
    (PREPARE, OUTPUTS),
    (COMMANDS, COMMANDS),
    (COMMANDS, OUTPUTS),
    (OUTPUTS, OUTPUTS),
]


@pytest.mark.parametrize("cause", STOPS)
@pytest.mark.parametrize(("crashed", "stage"), PLACES)
def test_a_stop_in_each_stage(lab: Lab, cause: Cause, crashed: str | None, stage: str) -> None:
    if crashed is not None:
        crash_in(lab, crashed)
        lab.engine.programs["simulate"] = Script(files={"result": "2"})
    box: list[Attempt] = []
    if (crashed, stage) != (COMMANDS, COMMANDS):
        hook(lab, stage, lambda: stop(box[0], cause))
    if stage == OUTPUTS:
        for running in lab.engine.containers.values():
            running.end(Exit(0))
    box.append(lab.attempt(recovered=crashed is not None))
    if (crashed, stage) == (COMMANDS, COMMANDS):
        # The container runs on: the stop comes before the restarted agent adopts it.
        stop(box[0], cause)
    run_attempt(box[0])
    check(lab, expected(cause, stage))


@pytest.mark.parametrize("cause", STOPS)
@pytest.mark.parametrize("crashed", [COMMANDS, OUTPUTS])
def test_a_stop_before_the_crash_is_carried_out_after_it(
    lab: Lab, cause: Cause, crashed: str
) -> None:
    crash_in(lab, crashed)
    if cause is Cause.SPOT_RECLAIMED:
        lab.reports.note(KEY, reclaim_at=time.time() + 60)
    lab.reports.note(KEY, cause=cause.value, discard=False)
    run_attempt(lab.attempt(recovered=True))
    check(lab, expected(cause, COMMANDS))


@pytest.mark.parametrize("crashed", [PREPARE, COMMANDS, OUTPUTS])
def test_a_crash_loses_and_doubles_nothing(lab: Lab, crashed: str) -> None:
    crash_in(lab, crashed)
    if crashed == COMMANDS:
        (running,) = lab.engine.containers.values()
        running.end(Exit(0))
    else:
        lab.engine.programs["simulate"] = Script(files={"result": "2"})
    body = run(lab, recovered=True)
    assert (body["cause"], body["exit_code"]) == ("completed", 0)
    assert lab.outputs == ["result", "stderr.txt", "stdout.txt"]
    assert len(lab.engine.started) == 1
    assert lab.reports.kinds(KEY).count(ReportKind.STARTED) == 1
    assert lab.reports.kinds(KEY).count(ReportKind.COMPUTATION_STARTED) == 1
    assert lab.storage.stored[OUTPUT] == 1
    numbers = [r.body["id"] for r in lab.reports.of(KEY) if r.kind is ReportKind.OPERATION_STARTED]
    assert len(numbers) == len(set(numbers))


def test_a_crash_after_the_upload_stores_nothing_again(lab: Lab) -> None:
    def crash(kind: ReportKind, _: object) -> None:
        if kind is ReportKind.FINISHED:
            raise Crash

    lab.reports.on_report = crash
    with pytest.raises(Crash):
        run_attempt(lab.attempt())
    lab.reports.on_report = None
    assert run(lab, recovered=True)["cause"] == "completed"
    assert lab.storage.stored[OUTPUT] == 1


def test_a_crash_after_a_failed_upload_is_not_a_success(lab: Lab) -> None:
    def crash(kind: ReportKind, _: object) -> None:
        if kind is ReportKind.FINISHED:
            raise Crash

    lab.storage.refused[OUTPUT] = 404
    lab.reports.on_report = crash
    with pytest.raises(Crash):
        run_attempt(lab.attempt())
    lab.reports.on_report = None
    lab.storage.refused.clear()
    assert run(lab, recovered=True)["cause"] == "upload_failed"
    assert OUTPUT not in lab.storage.objects


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("stage", [COMMANDS, OUTPUTS])
def test_a_kill_that_discards_uploads_nothing(lab: Lab, stage: str, discard: bool) -> None:
    box: list[Attempt] = []
    hook(lab, stage, lambda: box[0].stop(Cause.KILLED_BY_USER, "You killed it.", discard=discard))
    box.append(lab.attempt())
    run_attempt(box[0])
    (body,) = lab.finished
    assert (body["cause"], body["detail"]) == ("killed_by_user", "You killed it.")
    assert (MANIFEST in lab.storage.objects) is not discard


@pytest.mark.parametrize("code", [1, 2, 126, 127, 137, 255])
@pytest.mark.parametrize("crashed", [None, PREPARE, COMMANDS, OUTPUTS])
def test_an_exit_code_is_reported_with_outputs(lab: Lab, code: int, crashed: str | None) -> None:
    script = Script(Exit(code), files={"result": "2"})
    lab.engine.programs["simulate"] = script
    if crashed is not None:
        crash_in(lab, crashed)
    if crashed == COMMANDS:
        (running,) = lab.engine.containers.values()
        running.end(Exit(code))
    lab.engine.programs["simulate"] = script
    body = run(lab, recovered=crashed is not None)
    assert (body["cause"], body["exit_code"]) == ("nonzero_exit", code)
    assert "result" in lab.outputs


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        (Script(Exit(137, 9, oom=True)), Cause.OUT_OF_MEMORY),
        (Script(Exit(1), usage=Usage(pids_refused=1)), Cause.NONZERO_EXIT),
        (Script(Exit(139, 11)), Cause.NONZERO_EXIT),
        (Script(Exit(0, oom=True)), Cause.COMPLETED),
    ],
)
def test_an_end_by_the_kernel(lab: Lab, script: Script, cause: Cause) -> None:
    lab.engine.programs["simulate"] = script
    assert run(lab)["cause"] == cause.value
    assert OUTPUT in lab.storage.objects


@pytest.mark.parametrize("recovered", [False, True])
def test_a_full_disk_is_explained(lab: Lab, recovered: bool) -> None:
    lab.fields["disk_limit"] = 4096
    lab.engine.programs["simulate"] = Script(Exit(1), files={"big": "x" * 100_000})
    if recovered:
        crash_in(lab, OUTPUTS)
        lab.fields["disk_limit"] = 4096
    body = run(lab, recovered=recovered)
    assert body["cause"] == "disk_limit"
    if not recovered:
        assert "big" in body["detail"]


#: What fails, in which stage, and the cause that follows.
FAILURES: dict[str, tuple[Any, Cause]] = {
    "image": (
        lambda lab: setattr(
            lab.engine, "image_error", ImageUnavailable("image", "gone", "", permanent=True)
        ),
        Cause.IMAGE_UNAVAILABLE,
    ),
    "input": (lambda lab: lab.storage.objects.pop("input.zip"), Cause.INPUT_INVALID),
    "archive": (lambda lab: lab.storage.objects.update({"input.zip": b"x"}), Cause.INPUT_INVALID),
    "log folder": (
        lambda lab: lab.storage.objects.update({"input.zip": archive(**{"stdout.txt/x": ""})}),
        Cause.INPUT_INVALID,
    ),
    "container": (
        lambda lab: setattr(lab.engine, "start_error", ContainerError("no")),
        Cause.AGENT_ERROR,
    ),
    "disk": (
        lambda lab: setattr(
            lab.engine, "on_prepare", lambda _: (_ for _ in ()).throw(OSError(28, "full"))
        ),
        Cause.DISK_LIMIT,
    ),
    "machine": (
        lambda lab: setattr(
            lab.engine, "on_prepare", lambda _: (_ for _ in ()).throw(OSError(5, "broken"))
        ),
        Cause.AGENT_ERROR,
    ),
    "bug": (
        lambda lab: setattr(
            lab.engine, "on_prepare", lambda _: (_ for _ in ()).throw(KeyError("bug"))
        ),
        Cause.AGENT_ERROR,
    ),
    "upload": (lambda lab: lab.storage.refused.update({OUTPUT: 404}), Cause.UPLOAD_FAILED),
    "manifest": (lambda lab: lab.storage.refused.update({MANIFEST: 404}), Cause.UPLOAD_FAILED),
    "check": (lambda lab: lab.storage.refused.update({"stored": 404}), Cause.UPLOAD_FAILED),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("recovered", [False, True])
def test_a_failure_has_its_cause(lab: Lab, failure: str, recovered: bool) -> None:
    if recovered:
        crash_in(lab, PREPARE)
    lab.engine.programs["simulate"] = Script(files={"result": "2"})
    fail, cause = FAILURES[failure]
    fail(lab)
    body = run(lab, recovered=recovered)
    assert body["cause"] == cause.value
    assert body["detail"]
    assert body["saved"] == {}
    assert not lab.engine.containers
    assert not (lab.folder / "disk" / "task-1").exists()


@pytest.mark.parametrize("cause", STOPS)
def test_a_failure_after_a_stop_has_the_cause_of_the_stop(lab: Lab, cause: Cause) -> None:
    box: list[Attempt] = []
    lab.storage.objects.pop("input.zip")
    hook(lab, PREPARE, lambda: stop(box[0], cause))
    box.append(lab.attempt())
    run_attempt(box[0])
    assert [body["cause"] for body in lab.finished] == (
        [] if cause is Cause.LEASE_LOST else [cause.value]
    )


def test_a_lost_container_is_a_lost_machine(lab: Lab) -> None:
    crash_in(lab, COMMANDS)
    (running,) = lab.engine.containers.values()
    object.__setattr__(running, "script", Script(is_lost=True))
    assert run(lab, recovered=True)["cause"] == "machine_lost"


@pytest.mark.parametrize("commands", [("simulate",), ("first", "simulate")])
def test_an_unreported_end_is_not_a_success(lab: Lab, commands: tuple[str, ...]) -> None:
    lab.spec = spec_of(*(Command((name,)) for name in commands))
    lab.engine.programs |= {"first": Script(), "simulate": _refused}

    def crash(kind: ReportKind, _: object) -> None:
        if kind is ReportKind.FINISHED:
            raise Crash

    lab.reports.on_report = crash
    attempt = lab.attempt()
    object.__setattr__(attempt.volume, "close", lambda: None)
    with pytest.raises(Crash):
        run_attempt(attempt)
    lab.reports.on_report = None
    assert run(lab, recovered=True)["cause"] == "machine_lost"


def _refused(_: object) -> Script:
    raise ContainerError("the engine refused")


@pytest.mark.parametrize("code", [0, 1])
def test_a_command_that_failed_is_the_last(lab: Lab, code: int) -> None:
    lab.spec = spec_of(Command(("first",)), Command(("simulate",)))
    lab.engine.programs["first"] = Script(Exit(code))
    assert run(lab)["exit_code"] == code
    assert [spec.argv[0] for spec in lab.engine.started] == ["first", "simulate"][: 2 - code]


@pytest.mark.parametrize("resubmit", [False, True])
@pytest.mark.parametrize("has_checkpoints", [False, True])
def test_a_reclaimed_attempt_saves_what_the_next_one_needs(
    lab: Lab, resubmit: bool, has_checkpoints: bool
) -> None:
    checkpoints = Checkpoints(("result",)) if has_checkpoints else None
    lab.spec = spec_of(resubmit=resubmit, checkpoints=checkpoints)
    box: list[Attempt] = []
    hook(lab, COMMANDS, lambda: stop(box[0], Cause.SPOT_RECLAIMED))
    box.append(lab.attempt())
    run_attempt(box[0])
    (body,) = lab.finished
    assert body["cause"] == "spot_reclaimed"
    assert body["detail"].startswith(OUTCOMES[Cause.SPOT_RECLAIMED].sentence)
    wants_outputs = not (resubmit and has_checkpoints)
    saved: dict[str, Any] = {"generation": 1} if has_checkpoints else {}
    assert body["saved"] == saved | ({"outputs": True} if wants_outputs else {})


def test_the_slot_is_free_while_outputs_are_uploaded(lab: Lab) -> None:
    free: list[bool] = []
    hook(lab, OUTPUTS, lambda: free.append(not lab.slots.all_taken))
    lab.engine.programs["simulate"] = Script()
    run(lab)
    assert free == [True]


class Machines:
    """An MPI group that writes down what the stages ask of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def gather(self) -> None:
        self.calls.append("gather")

    def wait(self) -> None:
        self.calls.append("wait")

    def add_mpi_mounts(self, spec: ContainerSpec, index: int) -> ContainerSpec:
        self.calls.append(f"mounts {index}")
        return spec

    def diagnose_failure(self) -> None:
        self.calls.append("diagnose")

    def disband(self) -> None:
        self.calls.append("disband")


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("is_mpi", [False, True])
def test_machines_are_gathered_and_released_around_the_commands(
    lab: Lab, code: int, is_mpi: bool
) -> None:
    machines = Machines()
    lab.spec = spec_of(Command(("simulate",), mpi=is_mpi))
    lab.engine.programs["simulate"] = Script(Exit(code))
    run_attempt(lab.attempt(), machines)
    command = ["mounts 0", *(["diagnose"] if code else [])] if is_mpi else []
    assert machines.calls == ["gather", "wait", *command, "disband", "disband"]


@pytest.mark.parametrize(
    ("crashed", "calls"),
    [
        (PREPARE, ["gather", "wait", "disband", "disband"]),
        (COMMANDS, ["gather", "disband", "disband"]),
        (OUTPUTS, ["disband", "disband"]),
    ],
)
def test_a_restarted_leader_gathers_only_what_still_computes(
    lab: Lab, crashed: str, calls: list[str]
) -> None:
    crash_in(lab, crashed)
    for running in lab.engine.containers.values():
        running.end(Exit(0))
    lab.engine.programs["simulate"] = Script()
    machines = Machines()
    run_attempt(lab.attempt(recovered=True), machines)
    assert machines.calls == calls


def test_machines_are_released_after_a_failure(lab: Lab) -> None:
    lab.storage.objects.pop("input.zip")
    machines = Machines()
    run_attempt(lab.attempt(), machines)
    assert machines.calls == ["gather", "disband"]


def test_every_stage_is_explained_in_order() -> None:
    names = [stage.name for stage in with_machines(STAGES, Machines())]
    assert len(names) == len(set(names)) == len(STAGES) + 3
    page = (REPOSITORY / "docs" / "recovery.md").read_text()
    sections = [line for line in page.splitlines() if line.startswith("### ")]
    assert sections == [f"### `{name}`" for name in names]


def test_the_page_says_which_stages_are_repeated() -> None:
    page = (REPOSITORY / "docs" / "recovery.md").read_text()
    for stage in with_machines(STAGES, Machines()):
        section = page.partition(f"### `{stage.name}`")[2].partition("\n#")[0]
        all_done = Progress(started_at=1.0, computing=True, computed=True, stored=True)
        assert ("*Done*" in section) is stage.is_done(all_done), stage.name
        assert ("continues instead of starting again" in section) is not stage.repeats


@pytest.mark.parametrize("reclaim_first", [True, False])
def test_a_kill_without_outputs_stores_nothing_on_a_machine_that_is_reclaimed(
    lab: Lab, reclaim_first: bool
) -> None:
    attempt = lab.attempt()

    def stop_twice() -> None:
        if reclaim_first:
            attempt.reclaim(time.time() + 60)
        attempt.stop(Cause.KILLED_BY_USER, discard=True)
        attempt.reclaim(time.time() + 60)

    hook(lab, COMMANDS, stop_twice)
    run_attempt(attempt)
    assert not lab.storage.stored
