"""E-mail through the operator's server."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from urllib.parse import unquote, urlsplit

#: Seconds for each step with the mail server.
_TIMEOUT_S = 5.0
#: Port of a scheme that names none.
_PORTS = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True)
class Server:
    """Where mail is handed in."""

    encrypted: bool
    host: str
    port: int
    user: str | None = None
    password: str = ""


def read_server(url: str) -> Server:
    """The server that a URL such as `smtps://user:password@host:465` names.
    Raises ValueError: it is not such a URL."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("it is not a URL such as smtps://USER:PASSWORD@HOST:465")
    return Server(
        parts.scheme == "smtps",
        parts.hostname,
        parts.port or _PORTS[parts.scheme],
        unquote(parts.username) if parts.username else None,
        unquote(parts.password or ""),
    )


def compose(sender: str, to: str, subject: str, text: str) -> EmailMessage:
    """A message. Its headers hold one line each, whatever they are given.
    Raises ValueError: a header has a line break in it."""
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"], message["Subject"] = sender, to, subject
    # So that no automatic answer comes back.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    return message


def send(server: Server, message: EmailMessage, *, starttls: bool = True) -> None:
    """Hand a message in.
    Raises OSError, smtplib.SMTPException: the server is out of reach, or refuses."""
    context = ssl.create_default_context()
    if server.encrypted:
        connection: smtplib.SMTP = smtplib.SMTP_SSL(
            server.host, server.port, timeout=_TIMEOUT_S, context=context
        )
    else:
        connection = smtplib.SMTP(server.host, server.port, timeout=_TIMEOUT_S)
    with connection:
        if starttls and not server.encrypted:
            connection.starttls(context=context)
        if server.user is not None:
            connection.login(server.user, server.password)
        connection.send_message(message)
