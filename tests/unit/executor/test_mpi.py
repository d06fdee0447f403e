"""What the leader, a member and the coordinator of an MPI group decide, without other machines."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from executor.attempt.stages.commands import container_spec
from executor.containers.base import PEERS_DIR, ContainerError, Exit
from executor.mpi import leader as leader_module
from executor.mpi.coordinator import MpiCoordinator
from executor.mpi.leader import MpiLeader, host_name
from executor.mpi.member import MpiMember, NoReports
from simherd.contract import limits
from simherd.contract.attempt_spec import Command
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order
from tests.support.fakes.attempt import KEY, Lab, config_of, spec_of
from tests.support.fakes.containers import Script
from tests.support.fakes.link import FakeGangLink, FakeQueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from executor.attempt.context import Attempt, Reports
    from simherd.contract.attempt_spec import AttemptSpec

MEMBERS = ("m1", "m2", "m3")


class Group:
    """An attempt on three machines, of which this one is `m1`."""

    def __init__(self, folder: Path, *, resubmit: bool = False) -> None:
        self.queue = FakeQueue(leases={KEY: ("m1", "token")}, gangs={KEY: MEMBERS})
        self.lab = Lab(folder, spec=spec_of(Command(("simulate",), mpi=True), resubmit=resubmit))
        self.attempt = self.lab.attempt()
        link: Any = FakeGangLink(self.queue)
        self.forgotten: list[str] = []
        self.leader = MpiLeader(self.attempt, link, MEMBERS, self.forgotten.append)

    def state(self, member: str, state: str, **body: Any) -> None:
        message = {"member": member, "state": state, **body}
        self.leader.on_message(Message(Order.GANG_STATE, KEY, body=message))

    def ran(self, request: str, code: int, member: str = "m2", **body: Any) -> None:
        message = {"member": member, "request": request, "code": code, **body}
        self.leader.on_message(Message(Order.GANG_RAN, KEY, body=message))

    def sent(self, order: Order) -> list[tuple[str, dict[str, Any]]]:
        return [(to, m.body) for to, m in self.queue.sent if m.order is order]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    made = Group(tmp_path)
    yield made
    made.leader.disband()


def test_all_machines_must_be_ready(group: Group) -> None:
    waiting = threading.Thread(target=group.leader.wait)
    waiting.start()
    group.state("m2", "joining")
    group.state("m2", "ready")
    group.state("stranger", "ready")
    assert waiting.is_alive()
    group.state("m3", "ready")
    waiting.join(10)
    assert not waiting.is_alive()


@pytest.mark.parametrize("cause", [Cause.MACHINE_LOST, Cause.IMAGE_UNAVAILABLE, Cause.DISK_LIMIT])
def test_a_broken_member_stops_the_attempt(group: Group, cause: Cause) -> None:
    group.state("m2", "broken", cause=cause.value, detail="Why.")
    group.state("m3", "broken", cause=Cause.AGENT_ERROR.value, detail="Later.")
    assert group.attempt.switch.cause is cause
    assert group.attempt.state.stop_detail == (cause, "Why.")


@pytest.mark.parametrize("resubmit", [False, True])
def test_outputs_of_a_lost_group_are_kept_unless_another_attempt_follows(
    tmp_path: Path, resubmit: bool
) -> None:
    group = Group(tmp_path, resubmit=resubmit)
    group.state("m2", "broken", cause=Cause.MACHINE_LOST.value, detail="Gone.")
    assert group.attempt.switch.without_outputs is resubmit
    group.leader.disband()


def test_a_reclaimed_member_hands_the_attempt_back(group: Group) -> None:
    group.state("m2", "reclaimed", at=time.time() + 60)
    timetable = group.attempt.state.timetable
    group.state("m3", "reclaimed", at=time.time() + 600)
    assert group.attempt.switch.cause is Cause.SPOT_RECLAIMED
    assert group.attempt.state.timetable is timetable


def test_gathering_asks_every_member_with_its_host_name(group: Group) -> None:
    group.leader.gather()
    group.leader.disband()
    assert group.sent(Order.GANG_JOIN) == [
        ("m2", {"leader": "m1", "host": "host1"}),
        ("m3", {"leader": "m1", "host": "host2"}),
    ]
    assert [to for to, _ in group.sent(Order.GANG_LEAVE)] == ["m2", "m3"]
    assert group.forgotten == [KEY]
    assert group.queue.gangs == {}
    assert group.lab.engine.networks == set()


def test_without_a_network_nothing_is_gathered(group: Group) -> None:
    group.lab.engine.error = ContainerError("no networks")
    with pytest.raises(Exception, match="no networks"):
        group.leader.gather()
    group.lab.engine.error = None
    assert group.sent(Order.GANG_JOIN) == []


@pytest.mark.parametrize("is_down", [False, True])
def test_a_second_release_changes_nothing(group: Group, is_down: bool) -> None:
    group.queue.is_down = is_down
    group.leader.disband()
    group.leader.disband()
    assert group.forgotten == [KEY]


def test_a_silent_member_is_lost(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("executor.mpi.leader.time.monotonic", lambda: now[0])
    check = group.leader._check_members
    for _ in range(3):
        now[0] += limits.LEASE_S - 1
        group.queue.beats = {name: now[0] for name in MEMBERS}
        check()
    assert group.attempt.switch.cause is None
    group.queue.beats["m3"] += 1
    now[0] += limits.LEASE_S + 1
    check()
    assert group.attempt.switch.cause is Cause.MACHINE_LOST
    assert group.attempt.state.stop_detail is not None
    assert "m2" in group.attempt.state.stop_detail[1]


def with_request(group: Group, name: str = "1", host: str = "host1") -> str:
    """Let mpirun ask for a line on a host; returns the request's name."""
    spec = group.lab.spec
    group.attempt.work.mkdir(exist_ok=True)
    group.leader.add_mpi_mounts(container_spec(group.attempt, 0, spec.commands[0]), 0)
    index, folder, env = group.leader._folders[-1]
    (group.attempt.folder / "mpi-0" / f"{name}.note").write_text(f"{host}\norted\n")
    group.leader._relay(index, folder, env)
    runs = group.sent(Order.GANG_RUN)
    return str(runs[-1][1]["request"]) if runs else ""


def code_of(group: Group, name: str = "1") -> int:
    return int((group.attempt.folder / "mpi-0" / f"{name}.code").read_text())


def test_a_request_reaches_its_member_and_returns_its_exit_code(group: Group) -> None:
    request = with_request(group)
    ((to, body),) = group.sent(Order.GANG_RUN)
    assert (to, body["line"], body["index"]) == ("m2", "orted", 0)
    group.ran(request, 0, member="m3")
    group.ran(request, 7)
    group.ran(request, 8)
    assert code_of(group) == 7


@pytest.mark.parametrize("host", ["host0", "host9", "localhost"])
def test_a_request_for_no_member_fails_at_once(group: Group, host: str) -> None:
    assert with_request(group, host=host) == ""
    assert code_of(group) == 68


def test_mounts_name_all_hosts(group: Group) -> None:
    with_request(group)
    hosts = (group.attempt.folder / "mpi-0" / "hosts").read_text()
    assert hosts == "".join(f"{host_name(place)} slots=2\n" for place in range(3))
    assert group.leader._settings()["OMPI_MCA_plm_rsh_agent"] == f"{PEERS_DIR}/rsh"


def test_a_failed_command_without_other_parts_is_its_own_fault(group: Group) -> None:
    group.leader.diagnose_failure()
    assert group.attempt.switch.cause is None


def test_a_failed_part_explains_the_failure(group: Group) -> None:
    request = with_request(group)
    group.ran(request, 137, cause=Cause.OUT_OF_MEMORY.value, detail="On m2.")
    group.leader.diagnose_failure()
    assert group.attempt.switch.cause is Cause.OUT_OF_MEMORY


def test_a_part_without_an_end_is_a_lost_machine(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader_module, "_DIAGNOSE_S", 0.01)
    with_request(group)
    group.leader.diagnose_failure()
    assert group.attempt.switch.cause is Cause.MACHINE_LOST


class Member:
    """This machine as a member of an attempt that `m0` leads."""

    def __init__(self, folder: Path) -> None:
        self.queue = FakeQueue(leases={KEY: ("m0", "token")}, gangs={KEY: ("m0", "m1")})
        self.lab = Lab(folder)
        self.lab.reports = NoReports()  # type: ignore[assignment]
        self.attempt = self.lab.attempt()
        self.left: list[MpiMember] = []
        link: Any = FakeGangLink(self.queue)
        self.member = MpiMember(self.attempt, link, "m0", "host1", self.left.append)

    def states(self) -> list[str]:
        return [m.body["state"] for _, m in self.queue.sent if m.order is Order.GANG_STATE]


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    made = Member(tmp_path)
    made.member.start()
    for _ in range(2000):
        if made.states()[-1:] in (["ready"], ["broken"]):
            break
        time.sleep(0.001)
    yield made
    made.member.leave()
    made.member.join()


def test_a_member_prepares_and_reports_it(member: Member) -> None:
    assert member.states() == ["joining", "ready"]
    member.member.repeat_state()
    assert member.states()[-1] == "ready"


@pytest.mark.parametrize(
    ("ended", "cause"),
    [
        (Exit(0), None),
        (Exit(3), None),
        (Exit(137, 9), "machine_lost"),
        (Exit(137, 9, oom=True), "out_of_memory"),
    ],
)
def test_a_member_runs_a_line_once(member: Member, ended: Exit, cause: str | None) -> None:
    member.lab.engine.programs["sh"] = Script(ended)
    line = {"request": "r1", "index": 0, "line": "orted", "env": {}}
    member.member.run_line(line)
    member.member.run_line(line)
    for thread in threading.enumerate():
        if thread.name == "line-r1":
            thread.join()
    (body,) = [m.body for _, m in member.queue.sent if m.order is Order.GANG_RAN]
    assert body["code"] == ended.code
    assert body.get("cause") == cause
    (spec,) = member.lab.engine.started
    assert spec.argv == ("sh", "-c", "orted")
    assert spec.peers is not None
    assert spec.peers.hostname == "host1"


def test_a_member_that_leaves_leaves_nothing(member: Member) -> None:
    member.member.leave()
    member.member.join()
    assert member.left == [member.member]
    assert not member.attempt.folder.exists()
    assert not member.lab.slots.all_taken


@pytest.fixture
def coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    queue = FakeQueue()
    link = FakeGangLink(queue)
    monkeypatch.setattr("executor.mpi.coordinator.GangLink", lambda *_: link)
    monkeypatch.setattr("executor.mpi.coordinator.GangClaimer", lambda *_: object())
    lab = Lab(tmp_path)

    def make(spec: AttemptSpec, reports: Reports) -> Attempt:
        return lab.attempt()

    made: Any = MpiCoordinator(
        config_of(tmp_path, machines=2, mpi=True),
        lab.slots,
        make,
        may_join=lambda: made.may_take,
        on_leave=lambda: None,
    )
    made.queue, made.lab, made.may_take = queue, lab, True
    yield made
    made.close()


def join(coordinator: Any) -> bool:
    body = {"leader": "m0", "host": "host1"}
    return bool(coordinator.handle(Message(Order.GANG_JOIN, KEY, body=body)))


def refusals(coordinator: Any) -> list[str]:
    return [m.body["cause"] for _, m in coordinator.queue.sent if m.body.get("state") == "broken"]


def in_gang(coordinator: Any) -> None:
    queue = coordinator.queue
    queue.leases[KEY], queue.gangs[KEY] = ("m0", "token"), ("m0", "m1")
    queue.specs[KEY] = spec_of().encode()


@pytest.mark.parametrize("order", [Order.STOP, Order.DRAIN, Order.DEADLINE, Order.UNSTAGE])
def test_other_messages_are_not_for_the_coordinator(coordinator: Any, order: Order) -> None:
    assert not coordinator.handle(Message(order, KEY))


def test_a_request_of_a_gang_that_is_over_is_dropped(coordinator: Any) -> None:
    assert join(coordinator)
    assert coordinator.attempts == []
    assert refusals(coordinator) == []


def test_a_machine_that_drains_refuses(coordinator: Any) -> None:
    in_gang(coordinator)
    coordinator.may_take = False
    join(coordinator)
    assert refusals(coordinator) == ["agent_stopped"]


def test_a_restarted_member_reports_its_loss_and_refuses(coordinator: Any) -> None:
    in_gang(coordinator)
    coordinator.start()
    assert refusals(coordinator) == ["machine_lost"]
    join(coordinator)
    assert refusals(coordinator) == ["machine_lost"] * 2
    assert coordinator.attempts == []


def test_a_specification_that_cannot_be_read_is_refused(coordinator: Any) -> None:
    in_gang(coordinator)
    coordinator.queue.specs[KEY] = "{}"
    join(coordinator)
    assert refusals(coordinator) == ["agent_error"]


def test_a_member_joins_once_and_leaves_at_a_stop(coordinator: Any) -> None:
    in_gang(coordinator)
    join(coordinator)
    join(coordinator)
    (attempt,) = coordinator.attempts
    assert coordinator.handle(Message(Order.STOP, KEY, Cause.KILLED_BY_USER))
    assert attempt.switch.cause is Cause.LEASE_LOST


def test_a_member_notifies_its_leader_of_a_reclaim(coordinator: Any) -> None:
    in_gang(coordinator)
    coordinator.reclaimed(5.0)
    join(coordinator)
    coordinator.reclaimed(None)
    coordinator.reclaimed(9.0)
    sent = [m.body["at"] for _, m in coordinator.queue.sent if m.body.get("state") == "reclaimed"]
    assert sent == [9.0]


def test_a_claimed_attempt_gets_the_machines_of_its_claim(coordinator: Any) -> None:
    coordinator.queue.leases[KEY] = ("m1", "token")
    coordinator.queue.gangs[KEY] = ("m1", "m2")
    machines = coordinator.lead(coordinator.lab.attempt())
    assert machines.members == ("m1", "m2")
    machines.disband()
