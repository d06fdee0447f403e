"""This machine's part in MPI groups: it leads attempts, or is a member of one, or neither."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

import redis

from executor.link.lease import Claimer
from executor.link.mpi import GangClaimer, GangLink
from executor.machine.volumes import DiskError
from executor.mpi.leader import MpiLeader
from executor.mpi.member import MpiMember, NoReports
from simherd.contract.attempt_spec import AttemptSpec
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.attempt.context import Attempt, Reports
    from executor.config import Config
    from executor.machine.slots import Slots

log = logging.getLogger(__name__)

_FROM_LEADER = frozenset({Order.GANG_JOIN, Order.GANG_RUN, Order.GANG_LEAVE})
_FROM_MEMBER = frozenset({Order.GANG_STATE, Order.GANG_RAN})


class MpiCoordinator:
    """Routes the messages of an MPI group. Idle if every machine runs attempts alone."""

    def __init__(
        self,
        config: Config,
        slots: Slots,
        make: Callable[[AttemptSpec, Reports], Attempt],
        *,
        may_join: Callable[[], bool],
        on_leave: Callable[[], None],
    ) -> None:
        """`make` makes an attempt; `may_join`: whether this machine accepts more work; `on_leave`
        is called when it stops being a member."""
        self._on_leave = on_leave
        self._slots = slots
        self._make = make
        self._may_join = may_join
        self._me = config.executor_id
        self._is_mpi = config.mpi and config.machines > 1
        redis_at, group = config.redis, config.group_id
        self._link = GangLink(redis_at, group, self._me)
        self.claimer = (
            GangClaimer(redis_at, group, self._me, config.machines)
            if self._is_mpi
            else Claimer(redis_at, group, self._me)
        )
        self._lock = threading.Lock()
        self._leaders: dict[str, MpiLeader] = {}
        self._member: MpiMember | None = None
        #: Attempt that an earlier agent lost as a member → its leader.
        self._abandoned: dict[str, str] = {}

    def start(self) -> None:
        """Report to the leaders that this machine lost what an earlier agent ran for them."""
        if self._is_mpi:
            with contextlib.suppress(redis.RedisError):
                gangs = self._link.gangs().items()
                self._abandoned = {key: m[0] for key, m in gangs if self._me in m[1:]}
                for key, leader in self._abandoned.items():
                    self._refuse(leader, key, Cause.MACHINE_LOST, "was started again")

    @property
    def attempts(self) -> list[Attempt]:
        """The attempt that this machine is a member of."""
        member = self._member
        return [] if member is None else [member.attempt]

    def lead(self, attempt: Attempt) -> MpiLeader | None:
        """Return the machines that this machine claimed the attempt with; None: it is alone. Raises
        RedisError."""
        if not self._is_mpi:
            return None
        members = self._link.members(attempt.spec.key) or (self._me,)
        leader = MpiLeader(attempt, self._link, members, self._forget_leader)
        with self._lock:
            self._leaders[attempt.spec.key] = leader
        return leader

    def handle(self, message: Message) -> bool:
        """Handle a message of an MPI group; returns False for any other message."""
        member = self._member
        is_mine = member is not None and member.attempt.spec.key == message.attempt
        if message.order in _FROM_MEMBER:
            leader = self._leaders.get(message.attempt)
            if leader is not None:
                leader.on_message(message)
        elif message.order is Order.GANG_JOIN:
            self._join(message)
        elif member is None or not is_mine:
            return message.order in _FROM_LEADER
        elif message.order is Order.GANG_RUN:
            member.run_line(message.body)
        elif message.order in (Order.GANG_LEAVE, Order.STOP):
            member.leave()
        else:
            return False
        return True

    def _join(self, message: Message) -> None:
        key, leader = message.attempt, str(message.body["leader"])
        member = self._member
        if member is not None and member.attempt.spec.key == key:
            member.repeat_state()
            return
        if member is not None:
            # The leader repeats its request until this machine is free.
            member.leave()
            return
        if self._me not in self._link.members(key)[1:]:
            return
        try:
            if key in self._abandoned:
                self._refuse(leader, key, Cause.MACHINE_LOST, "was started again")
            elif not self._may_join():
                self._refuse(leader, key, Cause.AGENT_STOPPED, "takes nothing more")
            else:
                self._begin(key, leader, str(message.body["host"]))
        except (ValueError, DiskError, OSError) as error:
            self._refuse(leader, key, Cause.AGENT_ERROR, f"cannot take part: {error}")

    def _begin(self, key: str, leader: str, host: str) -> None:
        attempt = self._make(AttemptSpec.decode(self._link.spec(key)), NoReports())
        self._slots.take_now()
        self._member = MpiMember(attempt, self._link, leader, host, self._forget_member)
        self._member.start()

    def _refuse(self, leader: str, key: str, cause: Cause, why: str) -> None:
        detail = f"Machine {self._me} of the MPI group {why}."
        body = {"member": self._me, "state": "broken", "cause": cause.value, "detail": detail}
        self._link.send(leader, Message(Order.GANG_STATE, key, body=body))

    def _forget_leader(self, key: str) -> None:
        with self._lock:
            self._leaders.pop(key, None)

    def _forget_member(self, member: MpiMember) -> None:
        if self._member is member:
            self._member = None
            self._on_leave()

    def reclaimed(self, at: float | None) -> None:
        """Notify the leader that this machine is reclaimed `at`; None: it is not reclaimed."""
        member = self._member
        if member is not None and at is not None:
            member.reclaimed(at)

    def stop(self, cause: Cause) -> None:
        """Leave at once, and notify the leader."""
        member = self._member
        if member is not None:
            member.fail(cause, f"Machine {self._me} of the MPI group stopped its part.")
            member.leave()

    def close(self) -> None:
        """Leave, and join."""
        self.stop(Cause.AGENT_STOPPED)
        member = self._member
        if member is not None:
            member.join()
        self._link.close()
