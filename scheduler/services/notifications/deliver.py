"""Delivering what has happened: claimed in SQL, sent side by side, tried again for about a day."""

from __future__ import annotations

import json
import logging
import smtplib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy import select, update

from scheduler.net import mail
from scheduler.net.ssrf_guard import NotAllowed, networks, open_client
from scheduler.store.event_models import Delivery, Registration
from scheduler.store.outbox import DELIVER
from simherd.contract import limits
from simherd.contract.notifications import (
    REPEATING,
    ActionType,
    DeliveryState,
    NotificationTrigger,
    RegistrationState,
)
from simherd.contract.signing import signature_headers
from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

_BACKOFF = Backoff(
    limits.DELIVERY_FIRST_WAIT_S, limits.DELIVERY_LONGEST_WAIT_S, jitter=(0.75, 1.25)
)

#: Deliveries that are sent at one time: each takes seconds at the most, and so do all.
_BATCH = 20
#: Longest sentence that is kept of a failed try, characters.
_ERROR_LENGTH = 500


class Failed(Exception):
    """A try came to nothing; the message is for people."""


@dataclass(frozen=True)
class ClaimedDelivery:
    """A delivery that is this worker's to try."""

    delivery: Delivery
    event: Registration


def deliver_due(rt: Runtime, now: float) -> int:
    """Try the deliveries that are due; answers how many were.

    Args:
        parts: the scheduler's parts.
        now: seconds since the epoch.
    """
    claimed = _claim(rt, now)
    if not claimed:
        return 0
    with ThreadPoolExecutor(len(claimed), thread_name_prefix="deliver") as pool:
        errors = list(pool.map(lambda one: _try(rt, one), claimed))
    for one, error in zip(claimed, errors, strict=True):
        with rt.store.write() as session:
            _note(session, one, error)
    if len(claimed) == _BATCH:
        # Another job may come in between.
        rt.send_job(DELIVER)
    return len(claimed)


def _claim(rt: Runtime, now: float) -> list[ClaimedDelivery]:
    """Take what is due. Whoever moves its next try ahead has it, also if they die then."""
    claimed = []
    with rt.store.write() as session:
        due = session.execute(
            select(Delivery, Registration)
            .join(Registration, Registration.id == Delivery.event_id)
            .where(Delivery.state == DeliveryState.WAITING.value, Delivery.next_at <= now)
            .order_by(Delivery.next_at)
            .limit(_BATCH)
        ).all()
        for delivery, event in due:
            taken: Any = session.execute(
                update(Delivery)
                .where(
                    Delivery.id == delivery.id,
                    Delivery.state == DeliveryState.WAITING.value,
                    Delivery.tries == delivery.tries,
                )
                .values(
                    tries=delivery.tries + 1,
                    last_try_at=now,
                    next_at=now + _BACKOFF.after(delivery.tries + 1),
                )
                .execution_options(synchronize_session=False)
            )
            if taken.rowcount:
                session.refresh(delivery)
                claimed.append(ClaimedDelivery(delivery, event))
    return claimed


def _try(rt: Runtime, one: ClaimedDelivery) -> str | None:
    """Send it; answers what went wrong, as a sentence."""
    try:
        if one.event.action_type == ActionType.WEBHOOK:
            _call(rt, one)
        else:
            _write(rt, one)
    except Failed as error:
        return str(error)
    except Exception as error:
        # Whatever it is, the others' deliveries go on.
        log.exception("event=delivery_broke delivery=%s", one.delivery.id)
        return f"Something went wrong on the server: {type(error).__name__}."
    return None


def _note(session: Session, one: ClaimedDelivery, error: str | None) -> None:
    delivery, event = one.delivery, one.event
    over = error is not None and delivery.tries >= limits.DELIVERY_TRIES
    if error is None:
        state = DeliveryState.DELIVERED
    else:
        state = DeliveryState.GIVEN_UP if over else DeliveryState.WAITING
    log.info(
        "event=delivery delivery=%s tries=%s state=%s error=%r",
        *(delivery.id, delivery.tries, state, error),
    )
    # The event first, as whoever removes it does.
    if over or (error is None and NotificationTrigger(event.trigger) not in REPEATING):
        detail = f"Given up after {delivery.tries} tries. {error}" if over else None
        session.execute(
            update(Registration)
            .where(Registration.id == event.id)
            .values(
                state=(RegistrationState.DISABLED if over else RegistrationState.DELIVERED).value,
                state_detail=detail,
            )
        )
    session.execute(
        update(Delivery)
        .where(Delivery.id == delivery.id, Delivery.tries == delivery.tries)
        .values(state=state.value, last_error=error)
    )


def payload(delivery: Delivery, event: Registration) -> dict[str, Any]:
    """What is told: the same with each try."""
    told: dict[str, Any] = {
        "event_id": event.id,
        "delivery_id": delivery.id,
        "trigger": event.trigger,
        "at": datetime.fromtimestamp(delivery.at, UTC).isoformat(),
        "task_id": event.task_id,
        "machine_group_id": event.group_id,
        "file_path": event.file_path,
    }
    return {name: value for name, value in told.items() if value is not None} | delivery.facts


def _call(rt: Runtime, one: ClaimedDelivery) -> None:
    body = json.dumps(payload(one.delivery, one.event), separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Simherd",
        # A compressed answer would be larger than what is read of it.
        "Accept-Encoding": "identity",
        **signature_headers(one.event.secret or "", body, time.time()),
    }
    allowed = networks(rt.settings.outbound_allow)
    try:
        with (
            open_client(allowed, whole_s=limits.WEBHOOK_S) as client,
            client.stream("POST", one.event.target, content=body, headers=headers) as answer,
        ):
            read = 0
            for piece in answer.iter_raw(4096):
                read += len(piece)
                if read >= limits.WEBHOOK_ANSWER_BYTES:
                    break
    except NotAllowed as error:
        raise Failed(f"The webhook's address is not allowed: {error}.") from error
    except httpx.TimeoutException as error:
        raise Failed(f"The webhook did not answer within {limits.WEBHOOK_S:.0f} s.") from error
    except httpx.HTTPError as error:
        raise Failed(f"The webhook could not be reached: {error}"[:_ERROR_LENGTH]) from error
    if answer.is_redirect:
        raise Failed(f"The webhook answered {answer.status_code}; redirects are not followed.")
    if not answer.is_success:
        raise Failed(f"The webhook answered {answer.status_code}.")


def _write(rt: Runtime, one: ClaimedDelivery) -> None:
    settings = rt.settings
    if settings.smtp_url is None or settings.smtp_from is None:
        raise Failed("This server sends no e-mail any more.")
    told = payload(one.delivery, one.event)
    about = told.get("task_id") or told.get("machine_group_id")
    lines = [
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in told.items()
    ]
    text = "This has happened on Simherd:\n\n{}\n\nTo remove what asks for it:\n{}\n".format(
        "\n".join(lines), f"simherd events remove {one.event.id}"
    )
    try:
        message = mail.compose(
            settings.smtp_from, one.event.target, f"Simherd: {told['trigger']} {about}", text
        )
        server = mail.read_server(settings.smtp_url.get_secret_value())
        mail.send(server, message, starttls=settings.smtp_starttls)
    except (OSError, ValueError, smtplib.SMTPException) as error:
        # What a mail server says may name the operator's account.
        log.warning("event=mail_refused delivery=%s error=%r", one.delivery.id, error)
        raise Failed(f"The mail server did not take it: {type(error).__name__}.") from error
