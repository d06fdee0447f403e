"""E-mails for events, handed in to a mail server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from scheduler.net.mail import compose
from scheduler.store.engine import migrate
from simherd.contract.lifecycle import Status
from tests.support.events import Site, of_task, serving
from tests.support.hooks import mail_server
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.hooks import Mailbox

#: Which is what these tests want of it.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")

SENDER = "Simherd <simherd@example.org>"


@pytest.fixture(scope="module")
def box() -> Iterator[Mailbox]:
    """A server that wants a login, and cannot encrypt."""
    with mail_server("ann", "p@ss") as made:
        yield made


@pytest.fixture(scope="module")
def site_with(
    box: Mailbox, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Site]]:
    folder = tmp_path_factory.mktemp("mails")
    database_url = f"sqlite:///{folder / 'test.db'}"
    migrate(database_url)
    mails = {"smtp_url": f"smtp://ann:p%40ss@127.0.0.1:{box.port}", "smtp_from": SENDER}
    # The API asks only whether there is a mail server.
    asked = make_runtime(database_url, redis_url, folder, **mails)[0]
    asked.__dict__["send_job"] = lambda *_: None
    with serving(asked) as url:
        yield lambda **more: Site(
            make_runtime(database_url, redis_url, folder, **{**mails, **more})[0], url
        )


def register(site: Site, address: str) -> Any:
    trigger = of_task(site.task(status=Status.FAILED.value), "task_failed")
    action = {"action_type": "email", "email_address": address}
    return site.api.post("/events/", json={"trigger": trigger, "action": action})


def test_an_e_mail_says_what_has_happened(box: Mailbox, site_with: Callable[..., Site]) -> None:
    site = site_with(smtp_starttls=False)
    made = register(site, "bob@example.org").json()
    assert made["secret"] is None
    assert site.deliver() == 1
    (message,) = box.messages
    task_id = made["trigger"]["task_id"]
    assert message["To"] == "bob@example.org"
    assert message["From"] == SENDER
    assert message["Subject"] == f"Simherd: task_failed {task_id}"
    text = message.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert f"task_id: {task_id}" in text.decode()
    assert "status: failed" in text.decode()
    assert made["event_id"] in text.decode()
    assert site.event(made)["state"] == "delivered"


@pytest.mark.parametrize(
    "settings",
    [{}, {"smtp_starttls": False, "smtp_url": "smtp://ann:wrong@127.0.0.1:{port}"}],
    ids=["no encryption", "wrong password"],
)
def test_an_e_mail_that_the_server_refuses_is_tried_again(
    box: Mailbox, site_with: Callable[..., Site], settings: dict[str, Any]
) -> None:
    before = len(box.messages)
    if "smtp_url" in settings:
        settings = {**settings, "smtp_url": settings["smtp_url"].format(port=box.port)}
    site = site_with(**settings)
    made = register(site, "bob@example.org").json()
    site.deliver()
    (delivery,) = site.event(made)["deliveries"]
    assert delivery["state"] == "waiting"
    assert delivery["last_error"].startswith("The mail server did not take it")
    assert "ann" not in delivery["last_error"]
    assert len(box.messages) == before


@pytest.mark.parametrize(
    "address",
    ["a@b.org\r\nBcc: c@d.org", "a@b.org, c@d.org", "a", "<a@b.org>", "a b@c.org", "é@b.org", ""],
)
def test_an_invalid_address_is_refused(site_with: Callable[..., Site], address: str) -> None:
    refused = register(site_with(), address)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("action.email_address: ")


def test_a_header_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"(?i)header|linefeed"):
        compose(SENDER, "a@b.org", "subject\r\nBcc: c@d.org", "text")


def test_without_a_mail_server_there_is_no_e_mail(redis_url: str, tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(database_url)
    rt = make_runtime(database_url, redis_url, tmp_path)[0]
    with serving(rt) as url:
        refused = register(Site(rt, url), "a@example.org")
    assert refused.status_code == 422
    assert "SIMHERD_SMTP_URL" in refused.json()["detail"]


@pytest.mark.parametrize(
    "settings", [{"smtp_url": "http://a:1", "smtp_from": SENDER}, {"smtp_url": "smtps://a:1"}]
)
def test_settings_that_cannot_be_are_refused(
    redis_url: str, tmp_path: Path, settings: dict[str, str]
) -> None:
    with pytest.raises(ValidationError, match=r"SMTP_FROM|smtps://"):
        make_runtime("sqlite://", redis_url, tmp_path, **settings)
