"""Priorities, and users of one group taking turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.queue.group_queue import Arrival

if TYPE_CHECKING:
    from tests.support.queue import Side


def _send(side: Side, user: str, *names: str, priority: int = 0, ahead: bool = False) -> None:
    for name in names:
        attempt = f"{name}:1"
        arrival = Arrival(attempt, 1, "{}", user=user, priority=priority, ahead=ahead)
        side.queue.enqueue(side.group, [arrival])


def _claimed(side: Side, count: int) -> list[str]:
    found = [side.claim() for _ in range(count)]
    return [claimed.attempt.partition(":")[0] for claimed in found if claimed is not None]


def _many(letter: str, count: int) -> list[str]:
    return [f"{letter}{number}" for number in range(count)]


def test_one_who_sent_thousands_does_not_starve_one_who_sent_one(side: Side) -> None:
    _send(side, "anna", *_many("a", 1000))
    assert _claimed(side, 10) == _many("a", 10)
    _send(side, "bert", "b0")
    assert side.queue.reader.position(side.group, "b0:1") in {0, 1}
    assert "b0" in _claimed(side, 2)


def test_users_take_turns_in_the_order_in_which_each_has_sent(side: Side) -> None:
    _send(side, "anna", *_many("a", 6))
    _send(side, "bert", *_many("b", 3))
    order = _claimed(side, 9)
    assert [name for name in order if name[0] == "a"] == _many("a", 6)
    assert [name for name in order if name[0] == "b"] == _many("b", 3)
    # Until one of them has nothing left, nobody is more than one turn ahead.
    for turn in range(1, 7):
        so_far = order[:turn]
        ahead = sum(n[0] == "a" for n in so_far) - sum(n[0] == "b" for n in so_far)
        assert abs(ahead) <= 1


def test_one_who_was_away_gets_no_arrears(side: Side) -> None:
    _send(side, "anna", *_many("a", 20))
    _claimed(side, 10)
    _send(side, "bert", *_many("b", 10))
    assert sum(name[0] == "b" for name in _claimed(side, 6)) == 3


def test_who_took_everything_back_begins_anew(side: Side) -> None:
    _send(side, "anna", *_many("a", 50))
    _send(side, "bert", *_many("b", 5))
    for name in _many("a", 50):
        side.queue.withdraw(side.group, f"{name}:1")
    _send(side, "anna", "late")
    assert "late" in _claimed(side, 2)


def test_what_goes_ahead_is_next(side: Side) -> None:
    _send(side, "anna", *_many("a", 5))
    _claimed(side, 2)
    _send(side, "bert", "again", ahead=True)
    assert side.queue.reader.position(side.group, "again:1") == 0


def test_a_higher_priority_goes_first_and_position_says_so(side: Side) -> None:
    _send(side, "", "low", priority=-100)
    _send(side, "", "usual")
    _send(side, "", "high", priority=100)
    positions = [side.queue.reader.position(side.group, f"{n}:1") for n in ("high", "usual", "low")]
    assert positions == [0, 1, 2]
    assert _claimed(side, 3) == ["high", "usual", "low"]
