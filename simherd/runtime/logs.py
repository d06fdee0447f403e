"""Log lines of every process: text for people, or one JSON object a line for a collector.

Calls look like `log.info("event=stop attempt=%s cause=%s", key, cause)`. The names in the template
become fields of the JSON, with the arguments as values: what an argument holds can make no field.
What a line does not say itself comes from `about`: the task it belongs to, the request.
"""

from __future__ import annotations

import contextvars
import functools
import json
import logging
import math
import re
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from simherd.runtime.redaction import redact
from simherd.runtime.tracing import trace_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

P = ParamSpec("P")
R = TypeVar("R")

#: The variable that says how log lines are written.
FORMAT_VARIABLE = "SIMHERD_LOG_FORMAT"


class LogFormat(str, Enum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"

    @classmethod
    def of(cls, env: Mapping[str, str]) -> LogFormat:
        """What the environment says. Raises ValueError, naming what can be."""
        given = env.get(FORMAT_VARIABLE, cls.TEXT.value)
        try:
            return cls(given)
        except ValueError:
            allowed = " or ".join(one.value for one in cls)
            raise ValueError(f"{FORMAT_VARIABLE} is {given!r}; it can be {allowed}.") from None


#: What the lines are about that are written in this thread or coroutine. It is shared with the
#: threads that a request uses, so that what they find out stands on the lines that follow.
_about: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("about")


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Within it every JSON line has these fields, unless it says otherwise itself."""
    token = _about.set({**(_about.get(None) or {}), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def note(**fields: Any) -> None:
    """Add fields to the innermost `about`; without one nothing is kept."""
    known = _about.get(None)
    if known is not None:
        known.update(fields)


def in_context(function: Callable[P, R]) -> Callable[P, R]:
    """The function, for other threads that write about the same things as this one."""
    context = contextvars.copy_context()

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # A copy each time: one context cannot be in two threads.
        return context.copy().run(function, *args, **kwargs)

    return run


def configure_logging(process: str, level: str, style: LogFormat, text: str) -> None:
    """Write this process' log to standard error, uncaught exceptions included.

    Args:
        process: its name on JSON lines.
        level: the least level that is written.
        style: text or JSON.
        text: the pattern of text lines, as `logging.Formatter` takes it.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(process) if style is LogFormat.JSON else TextLines(text))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def always(**fields: Any) -> None:
    """From now on every JSON line of this process has these fields too."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonLines):
            handler.formatter.always |= fields


def _uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.critical("event=process_broke", exc_info=(kind, error, trace))


def _uncaught_in_thread(hook: threading.ExceptHookArgs) -> None:
    if hook.exc_value is not None and hook.exc_type is not SystemExit:
        raised = (hook.exc_type, hook.exc_value, hook.exc_traceback)
        name = hook.thread.name if hook.thread else None
        logging.critical("event=thread_broke thread=%s", name, exc_info=raised)


class TextLines(logging.Formatter):
    """Keeps text from outside on its line: control characters are escaped. A trace follows, whose
    lines are indented: what an exception says cannot look like a line of the log."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _on_one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _indented(stack_info)

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _on_one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _indented(trace: str) -> str:
    return "\n".join(f"  {_on_one_line(line)}" for line in trace.split("\n"))


class JsonLines(logging.Formatter):
    """One JSON object a line; `always` holds what is on each."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.always: dict[str, Any] = {"process": process}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "event": None,
            "message": _message(record),
        }
        fields = {**self.always, **(_about.get(None) or {}), **_template_fields(record)}
        _name_the_task(fields)
        line["event"] = fields.pop("event", None)
        for name, value in fields.items():
            line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Nothing but ASCII: no character ends the line or turns it round, in any viewer.
        return redact(json.dumps({k: v for k, v in line.items() if v is not None}, default=str))


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        # A library's mistake in a call: the line is worth having all the same.
        return f"{record.msg} {record.args!r}"


def _name_the_task(fields: dict[str, Any]) -> None:
    """An attempt's name, TASK:NUMBER, is its task and its number."""
    task_id, colon, number = str(fields.get("attempt", "")).rpartition(":")
    if colon and number.isdigit():
        fields |= {"task": task_id, "attempt": int(number)}
    if fields.get("task"):
        fields["trace_id"] = trace_id(str(fields["task"]))


#: `name=` before it, where there is one; `%%` is not an argument.
_ARGUMENT = re.compile(r"(?:(\w+)=)?%(?:[-#0 +]*\d*(?:\.\d+)?([a-zA-Z])|%)|(\w+)=([^\s%]+)")


@functools.lru_cache(maxsize=1000)
def _names(template: str) -> tuple[tuple[tuple[str | None, bool], ...], dict[str, str]]:
    """The name of each argument and whether its `repr` is wanted, and what stands there in full."""
    arguments, literal = [], {}
    for found in _ARGUMENT.finditer(template):
        name, conversion, literal_name, text = found.groups()
        if literal_name is not None:
            literal[literal_name] = text
        elif conversion is not None:
            arguments.append((name, conversion == "r"))
    return tuple(arguments), literal


def _template_fields(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a line's template; only our own lines have any."""
    if not isinstance(record.msg, str) or not record.msg.startswith("event="):
        return {}
    names, literal = _names(record.msg)
    given = record.args if isinstance(record.args, tuple) else ()
    fields: dict[str, Any] = dict(literal)
    for (name, as_repr), value in zip(names, given, strict=False):
        if name is not None:
            fields[name] = repr(value) if as_repr else _plain(value)
    return fields


def _plain(value: Any) -> Any:
    """A number, truth value or nothing as JSON has it; everything else as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or (isinstance(value, bool | int | float) and not isinstance(value, Enum)):
        return value
    return str(value)
