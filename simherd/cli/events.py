"""`simherd events`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from simherd import events, resources
from simherd.cli.parts import Verbs, confirm, yes_option
from simherd.cli.render import as_json, echo, json_option, moment, table
from simherd.cli.watch import shows
from simherd.contract.notifications import NotificationTrigger
from simherd.errors import InvalidInput

if TYPE_CHECKING:
    from simherd.events import Event

#: Trigger → what makes it of the id.
_TASK = {
    NotificationTrigger.TASK_OUTPUT_UPLOADED: events.TaskOutputUploaded,
    NotificationTrigger.TASK_FAILED: events.TaskFailed,
    NotificationTrigger.TASK_STARTED: events.TaskStarted,
}
_GROUP = {
    NotificationTrigger.GROUP_TERMINATED: events.MachineGroupTerminated,
    NotificationTrigger.GROUP_TIME_LIMIT: events.MachineGroupTimeLimitReached,
    NotificationTrigger.GROUP_PENDING_START: events.MachineGroupPendingStart,
    NotificationTrigger.GROUP_PREEMPTION: events.MachineGroupPreemption,
}


@click.group(cls=Verbs)
def command() -> None:
    """Get webhooks or e-mails when something happens to tasks and machine groups."""


@command.command("list")
@shows
def list_(json_: bool) -> None:
    """List your events, newest first."""
    found = events.list_events()
    if json_:
        as_json([event.info for event in found])
        return
    headers = ["ID", "TRIGGER", "OF", "ACTION", "STATE", "CREATED"]
    table(headers, [_row(event) for event in found], "There are no events.")


def _row(event: Event) -> list[Any]:
    trigger, action = event.info["trigger"], event.info["action"]
    return [
        event.id,
        trigger["trigger"],
        trigger.get("task_id") or trigger.get("machine_group_id"),
        action.get("email_address") or action.get("webhook_url"),
        event.state,
        moment(event.info["created_at"]),
    ]


@command.command()
@click.argument(
    "trigger", type=click.Choice([t.value for t in NotificationTrigger]), metavar="TRIGGER"
)
@click.argument("of", metavar="TASK_ID|GROUP")
@click.option("--webhook", help="The URL that is called.")
@click.option("--email", help="The address that is written to.")
@click.option("--file", "file_path", help="Of an observer: the file, relative to the outputs.")
@click.option("--regex", help="Of file_regex_observer: the pattern that a line must match.")
@json_option
def register(
    trigger: str,
    of: str,
    webhook: str | None,
    email: str | None,
    file_path: str | None,
    regex: str | None,
    json_: bool,
) -> None:
    """Have a webhook called, or an e-mail written, when something happens to a task or to the
    machine group of this name.

    TRIGGER is task_output_uploaded, task_failed, task_started, file_exists_observer,
    file_regex_observer, machine_group_terminated, machine_group_time_limit_reached,
    machine_group_pending_start or machine_group_preemption.
    """
    made = events.register(
        _trigger(NotificationTrigger(trigger), of, file_path, regex), _action(webhook, email)
    )
    if json_:
        as_json({**made.info, "secret": made.secret})
        return
    echo(f"Event {made.id}: {made.state}.")
    if made.secret:
        echo(f"Its webhooks are signed with this secret, which is shown only now:\n{made.secret}")


def _action(webhook: str | None, email: str | None) -> events.Action:
    if webhook and not email:
        return events.WebhookNotification(webhook)
    if email and not webhook:
        return events.EmailNotification(email)
    raise InvalidInput("webhook, email: give one of --webhook and --email.")


def _trigger(
    trigger: NotificationTrigger, of: str, file_path: str | None, regex: str | None
) -> events.Trigger:
    if trigger in _TASK:
        return _TASK[trigger](of)
    if trigger in _GROUP:
        return _GROUP[trigger](resources.get_by_name(of).id)
    if not file_path:
        raise InvalidInput(f"file: {trigger} needs --file.")
    if trigger is NotificationTrigger.FILE_EXISTS:
        return events.ObserverFileExists(of, file_path)
    if not regex:
        raise InvalidInput(f"regex: {trigger} needs --regex.")
    return events.ObserverFileRegex(of, file_path, regex)


@command.command()
@click.argument("event_id")
@shows
def info(event_id: str, json_: bool) -> None:
    """Show an event and its deliveries."""
    event = events.get(event_id)
    if json_:
        as_json(event.info)
        return
    table(["ID", "TRIGGER", "OF", "ACTION", "STATE", "CREATED"], [_row(event)], "")
    if event.info["state_detail"]:
        echo(event.info["state_detail"])
    headers = ["HAPPENED", "STATE", "TRIES", "LAST TRY", "LAST ERROR"]
    rows = [
        [moment(d["at"]), d["state"], d["tries"], moment(d["last_try_at"]), d["last_error"]]
        for d in event.info["deliveries"]
    ]
    table(headers, rows, "It has not happened yet.")


@command.command()
@click.argument("event_ids", nargs=-1, required=True, metavar="EVENT_ID...")
@yes_option
@json_option
def remove(event_ids: tuple[str, ...], yes: bool, json_: bool) -> None:
    """Remove events; nothing more is sent for them."""
    if not yes:
        for event_id in event_ids:
            events.get(event_id)  # where it is missing, the server says so before the question
    confirm(f"Remove {', '.join(event_ids)}?", yes)
    for event_id in event_ids:
        events.remove(event_id)
        if not json_:
            echo(f"Event {event_id} was removed.")
    if json_:
        as_json(list(event_ids))
