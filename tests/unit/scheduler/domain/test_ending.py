"""How the end of an attempt changes its task: every cause with every kind of task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.domain.ending import (
    MAX_ATTEMPTS,
    MAX_LOSSES,
    AttemptEnd,
    CostSoFar,
    TaskSnapshot,
    decide,
)
from simherd.contract.cause import OUTCOMES, Cause
from simherd.contract.lifecycle import HELD, TABLE, TERMINAL, Status

NOW = 1_800_000_000.0
CAUSES = list(Cause)
TRIES_AGAIN = [c for c in Cause if OUTCOMES[c].resubmit]
FINAL = [c for c in Cause if not OUTCOMES[c].resubmit]
LOSS = {"attempt": 1, "machine_id": "m-1", "at": "2026-01-01T00:00:00+00:00", "detail": "It burnt."}
SPENT = CostSoFar(2.0, 2.0, "The task's machines have cost US$ 2.00; they may cost US$ 2.00.")
UNSPENT = replace(SPENT, spent=1.0, sentence="US$ 1.00 of US$ 2.00.")
TASKS = {
    "no_resubmission": TaskSnapshot(Status.COMPUTATION_STARTED, 1, resubmit=False),
    "resubmission": TaskSnapshot(Status.COMPUTATION_STARTED, 1, resubmit=True),
    "money_left": TaskSnapshot(Status.STARTED, 1, resubmit=True, cost=UNSPENT),
    "money_spent": TaskSnapshot(Status.STARTED, 1, resubmit=True, cost=SPENT),
    "spent_no_resubmission": TaskSnapshot(Status.STARTED, 1, resubmit=False, cost=SPENT),
    "often_lost": TaskSnapshot(Status.STARTED, 3, resubmit=True, losses=[LOSS] * (MAX_LOSSES - 1)),
    "last_attempt": TaskSnapshot(Status.STARTED, MAX_ATTEMPTS, resubmit=True),
    "killed": TaskSnapshot(Status.PENDING_KILL, 1, resubmit=True, kill_requested_at=NOW - 2.5),
    "killed_and_spent": TaskSnapshot(Status.PENDING_KILL, 1, resubmit=True, cost=SPENT),
}


def end(cause: Cause, detail: str | None = None, exit_code: int | None = None) -> AttemptEnd:
    return AttemptEnd(cause, NOW, "m-9", detail, exit_code)


def expected(task: str, cause: Cause) -> Status:
    """The status by the order of the four questions, written as a table."""
    outcome = OUTCOMES[cause]
    if task.startswith("killed"):
        return Status.KILLED
    if not outcome.resubmit:
        return outcome.status
    return {
        "resubmission": Status.SUBMITTED,
        "money_left": Status.SUBMITTED,
        "money_spent": Status.TTL_EXCEEDED,
        # Only a machine that was lost, not one that was reclaimed, counts as a loss.
        "often_lost": outcome.status if cause is Cause.MACHINE_LOST else Status.SUBMITTED,
    }.get(task, outcome.status)


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("task", TASKS)
def test_every_cause_ends_every_task_as_the_table_says(task: str, cause: Cause) -> None:
    ending = decide(TASKS[task], end(cause))
    assert ending.status is expected(task, cause)
    assert ending.description
    assert ending.attempt_detail
    assert (ending.status is Status.SUBMITTED) == ("next_attempt" in ending.columns)
    assert (ending.status in TERMINAL) == ("cause" in ending.columns)


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("status", sorted(HELD))
def test_the_lifecycle_allows_what_is_decided(status: Status, cause: Cause) -> None:
    """But for a kill that nobody asked for, and results before the commands have ended."""
    ending = decide(TaskSnapshot(status, 1, resubmit=True), end(cause))
    is_early = status in {Status.STARTED, Status.COMPUTATION_STARTED}
    is_refused = (cause is Cause.KILLED_BY_USER and status is not Status.PENDING_KILL) or (
        cause in {Cause.COMPLETED, Cause.NONZERO_EXIT} and is_early
    )
    assert (ending.status in TABLE[status].after) is not is_refused


@pytest.mark.parametrize("cause", TRIES_AGAIN)
def test_the_next_attempt_starts_with_nothing_of_the_last_one(cause: Cause) -> None:
    ending = decide(TASKS["resubmission"], end(cause, "The sentence."))
    assert ending.columns["next_attempt"] == 2
    assert ending.description == "The sentence. Queued again as attempt 2."
    for column in ("executer", "start_time", "computation_start_time", "computation_end_time"):
        assert ending.columns[column] is None
    assert "exit_code" not in ending.columns


@pytest.mark.parametrize("cause", FINAL)
def test_a_final_status_keeps_cause_detail_and_exit_code(cause: Cause) -> None:
    ending = decide(TASKS["resubmission"], end(cause, "The sentence.", 7))
    detail = None if cause is Cause.COMPLETED else "The sentence."
    assert ending.columns == {"cause": cause.value, "exit_code": 7, "error_detail": detail}
    assert ending.description == ending.attempt_detail == "The sentence."


@pytest.mark.parametrize("cause", [c for c in CAUSES if c is not Cause.COST_LIMIT])
def test_without_a_detail_the_sentence_is_the_causes(cause: Cause) -> None:
    assert decide(TASKS["spent_no_resubmission"], end(cause)).attempt_detail == (
        OUTCOMES[cause].sentence
    )


@pytest.mark.parametrize(
    ("detail", "cost", "sentence"),
    [
        (None, SPENT, SPENT.sentence),
        (None, None, OUTCOMES[Cause.COST_LIMIT].sentence),
        ("The executor's words.", SPENT, "The executor's words."),
    ],
)
def test_a_task_that_is_stopped_for_its_money_says_how_much(
    detail: str | None, cost: CostSoFar | None, sentence: str
) -> None:
    task = replace(TASKS["resubmission"], cost=cost)
    ending = decide(task, end(Cause.COST_LIMIT, detail))
    assert (ending.status, ending.description) == (Status.TTL_EXCEEDED, sentence)


@pytest.mark.parametrize("cause", TRIES_AGAIN)
def test_a_task_without_money_gets_no_further_attempt_and_says_so(cause: Cause) -> None:
    ending = decide(TASKS["money_spent"], end(cause, "The machine burnt."))
    assert ending.columns["cause"] == Cause.COST_LIMIT.value
    assert ending.description == ending.columns["error_detail"] == SPENT.sentence
    # The attempt's own row keeps why it ended.
    assert ending.attempt_detail == "The machine burnt."


@pytest.mark.parametrize(
    ("requested_at", "seconds"), [(NOW - 2.5, "2.5"), (NOW + 9, "0.0"), (None, "0.0")]
)
def test_a_kill_says_how_long_it_took(requested_at: float | None, seconds: str) -> None:
    task = replace(TASKS["killed"], kill_requested_at=requested_at)
    ending = decide(task, end(Cause.NONZERO_EXIT, exit_code=1))
    assert ending.description.endswith(f"request; it stopped {seconds} s after that.")
    assert ending.columns == {"cause": Cause.KILLED_BY_USER.value}


@pytest.mark.parametrize("task", TASKS)
def test_a_lost_machine_is_written_down_whatever_becomes_of_the_task(task: str) -> None:
    facts = TASKS[task]
    ending = decide(facts, end(Cause.MACHINE_LOST, "It burnt."))
    assert ending.columns["losses"][:-1] == list(facts.losses)
    loss = ending.columns["losses"][-1]
    assert loss["attempt"] == facts.attempt
    assert (loss["machine_id"], loss["detail"]) == ("m-9", "It burnt.")
    assert loss["at"] == "2027-01-15T08:00:00+00:00"


@pytest.mark.parametrize("cause", [c for c in CAUSES if c is not Cause.MACHINE_LOST])
def test_nothing_else_counts_as_a_loss(cause: Cause) -> None:
    assert "losses" not in decide(TASKS["often_lost"], end(cause)).columns


def test_a_task_that_is_held_names_every_machine_that_it_lost() -> None:
    ending = decide(TASKS["often_lost"], end(Cause.MACHINE_LOST))
    assert f"lost its machine {MAX_LOSSES} times" in ending.description
    assert ending.description.count("attempt 1 on m-1") == MAX_LOSSES - 1
    assert "attempt 3 on m-9" in ending.description


@pytest.mark.parametrize(
    ("attempt", "floor", "before", "following"),
    [
        (1, 0, 0, 2),
        (MAX_ATTEMPTS - 1, 0, 0, MAX_ATTEMPTS),
        (MAX_ATTEMPTS, 0, 0, None),
        # After a restore numbers start at the floor; attempts before it count all the same.
        (1, 5_000_000, 1, 5_000_000),
        (5_000_000, 5_000_000, 3, 5_000_001),
        (5_000_000, 5_000_000, MAX_ATTEMPTS - 1, None),
    ],
)
def test_attempts_are_counted_over_a_restore(
    attempt: int, floor: int, before: int, following: int | None
) -> None:
    task = TaskSnapshot(
        Status.STARTED, attempt, resubmit=True, attempt_floor=floor, attempts_before=before
    )
    ending = decide(task, end(Cause.AGENT_STOPPED))
    assert ending.columns.get("next_attempt") == following


def test_deciding_changes_no_facts() -> None:
    task = replace(TASKS["resubmission"], losses=[LOSS])
    decide(task, end(Cause.MACHINE_LOST))
    assert task.losses == [LOSS]
