"""Delivering notifications: claimed in SQL, sent in parallel, retried for about a day."""

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
from scheduler.store.notification_models import Delivery, Registration
from scheduler.store.outbox import DELIVER
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

#: Seconds a webhook has for its answer, and the bytes of it that are read.
WEBHOOK_S = 5.0
WEBHOOK_ANSWER_BYTES = 64 * 1024
#: Seconds before a delivery that failed is tried again: of the first time, doubled each time, and
#: at the most. Each wait is a quarter shorter or longer by chance.
DELIVERY_FIRST_WAIT_S = 60.0
DELIVERY_LONGEST_WAIT_S = 4 * 3600.0
#: Tries of a delivery: with the waits above they take about a day.
DELIVERY_TRIES = 14

log = logging.getLogger(__name__)

#: The waits between tries.
BACKOFF = Backoff(DELIVERY_FIRST_WAIT_S, DELIVERY_LONGEST_WAIT_S, jitter=(0.75, 1.25))

#: Deliveries that are sent at a time: in parallel, so that all take as few seconds as one.
_BATCH = 20
#: Longest error that is kept of a failed try, characters.
_ERROR_LENGTH = 500


class Failed(Exception):
    """A delivery failed; the message is for people."""


@dataclass(frozen=True)
class ClaimedDelivery:
    """A delivery that this worker must try."""

    delivery: Delivery
    event: Registration


def deliver_due(rt: Runtime, now: float) -> int:
    """Try the deliveries that are due at `now`, and return how many there were."""
    claimed = _claim(rt, now)
    if not claimed:
        return 0
    with ThreadPoolExecutor(len(claimed), thread_name_prefix="deliver") as pool:
        errors = list(pool.map(lambda delivery: _try(rt, delivery), claimed))
    for delivery, error in zip(claimed, errors, strict=True):
        with rt.store.write() as session:
            _record(session, delivery, error)
    if len(claimed) == _BATCH:
        # More may be due. A new job lets other jobs run in between.
        rt.send_job(DELIVER)
    return len(claimed)


def _claim(rt: Runtime, now: float) -> list[ClaimedDelivery]:
    """Claim what is due by moving its next try ahead: it is tried again if this worker dies."""
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
            claim: Any = session.execute(
                update(Delivery)
                .where(
                    Delivery.id == delivery.id,
                    Delivery.state == DeliveryState.WAITING.value,
                    Delivery.tries == delivery.tries,
                )
                .values(
                    tries=delivery.tries + 1,
                    last_try_at=now,
                    next_at=now + BACKOFF.after(delivery.tries + 1),
                )
                .execution_options(synchronize_session=False)
            )
            if claim.rowcount:
                session.refresh(delivery)
                claimed.append(ClaimedDelivery(delivery, event))
    return claimed


def _try(rt: Runtime, claimed: ClaimedDelivery) -> str | None:
    """Send a notification. Returns what went wrong, as a sentence; None: nothing."""
    try:
        if claimed.event.action_type == ActionType.WEBHOOK:
            _call(rt, claimed)
        else:
            _write(rt, claimed)
    except Failed as error:
        return str(error)
    except Exception as error:
        # The other deliveries must go on.
        log.exception("event=delivery_broke delivery=%s", claimed.delivery.id)
        return f"Something went wrong on the server: {type(error).__name__}."
    return None


def _record(session: Session, claimed: ClaimedDelivery, error: str | None) -> None:
    delivery, event = claimed.delivery, claimed.event
    is_last_try = error is not None and delivery.tries >= DELIVERY_TRIES
    if error is None:
        state = DeliveryState.DELIVERED
    else:
        state = DeliveryState.GIVEN_UP if is_last_try else DeliveryState.WAITING
    log.info(
        "event=delivery delivery=%s tries=%s state=%s error=%r",
        delivery.id,
        delivery.tries,
        state,
        error,
    )
    # The registration first, in the order in which its removal locks.
    if is_last_try or (error is None and NotificationTrigger(event.trigger) not in REPEATING):
        after = RegistrationState.DISABLED if is_last_try else RegistrationState.DELIVERED
        detail = f"Given up after {delivery.tries} tries. {error}" if is_last_try else None
        session.execute(
            update(Registration)
            .where(Registration.id == event.id)
            .values(state=after.value, state_detail=detail)
        )
    session.execute(
        update(Delivery)
        .where(Delivery.id == delivery.id, Delivery.tries == delivery.tries)
        .values(state=state.value, last_error=error)
    )


def payload(delivery: Delivery, event: Registration) -> dict[str, Any]:
    """Return what a notification says, the same in each try."""
    fields: dict[str, Any] = {
        "event_id": event.id,
        "delivery_id": delivery.id,
        "trigger": event.trigger,
        "at": datetime.fromtimestamp(delivery.at, UTC).isoformat(),
        "task_id": event.task_id,
        "machine_group_id": event.group_id,
        "file_path": event.file_path,
    }
    return {name: value for name, value in fields.items() if value is not None} | delivery.facts


def _call(rt: Runtime, claimed: ClaimedDelivery) -> None:
    body = json.dumps(payload(claimed.delivery, claimed.event), separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Simherd",
        # A compressed response could be larger than the part of it that is read.
        "Accept-Encoding": "identity",
        **signature_headers(claimed.event.secret or "", body, time.time()),
    }
    allowed = networks(rt.settings.outbound_allow)
    try:
        with (
            open_client(allowed, whole_s=WEBHOOK_S) as client,
            client.stream("POST", claimed.event.target, content=body, headers=headers) as response,
        ):
            read = 0
            for piece in response.iter_raw(4096):
                read += len(piece)
                if read >= WEBHOOK_ANSWER_BYTES:
                    break
    except NotAllowed as error:
        raise Failed(f"The webhook's address is not allowed: {error}.") from error
    except httpx.TimeoutException as error:
        raise Failed(f"The webhook did not answer within {WEBHOOK_S:.0f} s.") from error
    except httpx.HTTPError as error:
        raise Failed(f"The webhook could not be reached: {error}"[:_ERROR_LENGTH]) from error
    if response.is_redirect:
        raise Failed(f"The webhook returned {response.status_code}; redirects are not followed.")
    if not response.is_success:
        raise Failed(f"The webhook returned {response.status_code}.")


def _write(rt: Runtime, claimed: ClaimedDelivery) -> None:
    settings = rt.settings
    if settings.smtp_url is None or settings.smtp_from is None:
        raise Failed("This server sends no e-mail any more.")
    fields = payload(claimed.delivery, claimed.event)
    about = fields.get("task_id") or fields.get("machine_group_id")
    lines = [
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in fields.items()
    ]
    text = "This has happened on Simherd:\n\n{}\n\nTo remove what asks for it:\n{}\n".format(
        "\n".join(lines), f"simherd events remove {claimed.event.id}"
    )
    try:
        message = mail.compose(
            settings.smtp_from, claimed.event.target, f"Simherd: {fields['trigger']} {about}", text
        )
        server = mail.read_server(settings.smtp_url.get_secret_value())
        mail.send(server, message, starttls=settings.smtp_starttls)
    except (OSError, ValueError, smtplib.SMTPException) as error:
        # A mail server's reply may name the operator's account: users must not see it.
        log.warning("event=mail_refused delivery=%s error=%r", claimed.delivery.id, error)
        raise Failed(f"The mail server did not take it: {type(error).__name__}.") from error
