"""What this machine does together with others: it leads, or is a member, or neither."""

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
    """Routes what machines of a group tell one another. Idle where they work each for itself."""

    def __init__(
        self,
        config: Config,
        slots: Slots,
        make: Callable[[AttemptSpec, Reports], Attempt],
        may_join: Callable[[], bool],
        left: Callable[[], None],
    ) -> None:
        """`make` makes an attempt; `may_join`: whether this machine takes more work; `left` is
        called when it is a member no more."""
        self._left = left
        self._slots = slots
        self._make = make
        self._may_join = may_join
        self._me = config.executor_id
        self._together = config.mpi and config.machines > 1
        where = (config.redis, config.group_id, config.executor_id)
        self._link = GangLink(*where)
        self.claimer = GangClaimer(*where, config.machines) if self._together else Claimer(*where)
        self._lock = threading.Lock()
        self._gangs: dict[str, MpiLeader] = {}
        self._member: MpiMember | None = None
        #: Attempts of which an earlier agent here was a member: what it held is gone.
        self._lost: dict[str, str] = {}

    def start(self) -> None:
        """Own up to what an earlier agent was part of."""
        if self._together:
            with contextlib.suppress(redis.RedisError):
                found = self._link.gangs().items()
                self._lost = {key: m[0] for key, m in found if self._me in m[1:]}
                for key, leader in self._lost.items():
                    self._refuse(leader, key, Cause.MACHINE_LOST, "was started anew")

    @property
    def attempts(self) -> list[Attempt]:
        """What it is a member of."""
        member = self._member
        return [] if member is None else [member.attempt]

    def lead(self, attempt: Attempt) -> None:
        """Give an attempt that is this machine's the machines that it was claimed with.

        Raises RedisError.
        """
        if self._together:
            members = self._link.members(attempt.spec.key) or (self._me,)
            attempt.gang = MpiLeader(attempt, self._link, members, self._forget_gang)
            with self._lock:
                self._gangs[attempt.spec.key] = attempt.gang

    def handle(self, message: Message) -> bool:
        """Take a message, if it is one for this."""
        member = self._member
        mine = member is not None and member.attempt.spec.key == message.attempt
        if message.order in _FROM_MEMBER:
            gang = self._gangs.get(message.attempt)
            if gang is not None:
                gang.told(message)
        elif message.order is Order.GANG_JOIN:
            self._join(message)
        elif member is None or not mine:
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
            member.say_again()
            return
        if member is not None:
            # The leader asks again.
            member.leave()
            return
        if self._me not in self._link.members(key)[1:]:
            return
        try:
            if key in self._lost:
                self._refuse(leader, key, Cause.MACHINE_LOST, "was started anew")
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

    def _forget_gang(self, key: str) -> None:
        with self._lock:
            self._gangs.pop(key, None)

    def _forget_member(self, member: MpiMember) -> None:
        if self._member is member:
            self._member = None
            self._left()

    def reclaimed(self, at: float | None) -> None:
        """This machine goes at this moment, or, with None, it stays."""
        member = self._member
        if member is not None and at is not None:
            member.reclaimed(at)

    def stop(self, cause: Cause) -> None:
        """Leave at once, and have the leader know."""
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
