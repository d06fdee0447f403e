"""Each message reaches the part of the agent that it is for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from executor.agent.inbox_handler import InboxHandler
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order
from tests.support.fakes.link import FakeInbox

KEY = "task:1"


@pytest.fixture
def parts() -> Any:
    """The agent and its parts, and an inbox that they read."""
    made = SimpleNamespace(
        agent=MagicMock(), coordinator=MagicMock(), live_files=MagicMock(), prefetcher=MagicMock()
    )
    made.coordinator.handle.return_value = False
    handler = InboxHandler(
        made.agent,
        "m1",
        coordinator=made.coordinator,
        live_files=made.live_files,
        prefetcher=made.prefetcher,
    )
    made.inbox = FakeInbox(handler.handle)
    return made


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("cause", Cause)
def test_a_stop_reaches_its_attempt(parts: Any, cause: Cause, discard: bool) -> None:
    parts.inbox.deliver(Message(Order.STOP, KEY, cause, discard=discard, detail="Why."))
    parts.agent.stop_attempt.assert_called_once_with(KEY, cause, "Why.", discard=discard)


def test_orders_without_a_cause_stop_nothing(parts: Any) -> None:
    parts.inbox.deliver(Message(Order.STOP, KEY))
    parts.agent.stop_attempt.assert_not_called()


@pytest.mark.parametrize("order", Order)
def test_messages_of_an_mpi_group_go_no_further(parts: Any, order: Order) -> None:
    parts.coordinator.handle.return_value = True
    parts.inbox.deliver(Message(order, KEY, Cause.KILLED_BY_USER))
    assert not parts.agent.mock_calls
    assert not parts.live_files.mock_calls
    assert not parts.prefetcher.mock_calls


@pytest.mark.parametrize(
    ("order", "method"), [(Order.DRAIN, "stop_claiming"), (Order.LEAVE, "stop")]
)
def test_orders_to_the_agent(parts: Any, order: Order, method: str) -> None:
    parts.inbox.deliver(Message(order, ""))
    assert [call[0] for call in parts.agent.mock_calls] == [method]


@pytest.mark.parametrize("cause", [None, Cause.COST_LIMIT])
def test_a_deadline_is_moved(parts: Any, cause: Cause | None) -> None:
    parts.inbox.deliver(Message(Order.DEADLINE, KEY, cause, deadline_at=5.0))
    moved = parts.agent.live.return_value.move_deadline
    moved.assert_called_once_with(5.0, cause or Cause.TASK_TIME_LIMIT)


def test_orders_about_an_attempt_that_has_ended_change_nothing(parts: Any) -> None:
    parts.agent.live.return_value = None
    parts.inbox.deliver(Message(Order.DEADLINE, KEY, deadline_at=5.0))
    parts.inbox.deliver(Message(Order.OBSERVE, KEY, body={"observers": []}))


def test_questions_and_prefetches(parts: Any) -> None:
    parts.inbox.deliver(Message(Order.LIVE_FILES, KEY, body={"ask": "list"}))
    parts.inbox.deliver(Message(Order.UNSTAGE, KEY))
    parts.live_files.ask.assert_called_once_with(KEY, {"ask": "list"})
    parts.prefetcher.drop.assert_called_once_with(KEY)


def test_observers_are_added(parts: Any) -> None:
    observer = {"id": "o", "path": "log", "regex": None}
    parts.inbox.deliver(Message(Order.OBSERVE, KEY, body={"observers": [observer]}))
    (added,) = parts.agent.live.return_value.observers.add.call_args.args
    assert [o.id for o in added] == ["o"]
