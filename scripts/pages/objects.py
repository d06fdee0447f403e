"""What the Python reference says that cannot be read from the code as it stands."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)Example:\n((?:\1    .*\n|\n)+)", re.MULTILINE)


class Simherd(griffe.Extension):
    """Named in mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Summaries show the first line, so it has to be the whole sentence; examples are code."""
        if obj.docstring is not None:
            first, gap, rest = obj.docstring.value.partition("\n\n")
            whole = " ".join(first.split("\n")) + gap + rest
            obj.docstring.value = _EXAMPLE.sub(_as_code, whole + "\n")

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """A decorated method that describes a task submits it and returns the task."""
        if any(d.callable_path.endswith("._submitted") for d in func.decorators):
            func.returns = "Task"

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Methods of an aio.Task are those of a Task."""
        for name, member in list(cls.members.items()):
            if isinstance(member, griffe.Attribute) and str(member.value).startswith("_aside("):
                cls.set_member(name, _awaited(name, member))


def _as_code(found: re.Match[str]) -> str:
    indent, code = found[1], found[2].rstrip("\n")
    return f"{indent}Example:\n{indent}    ```python\n{code}\n{indent}    ```\n"


def _awaited(name: str, member: griffe.Attribute) -> griffe.Function:
    same = f"To be awaited; as [`Task.{name}`][simherd.tasks.Task.{name}]."
    made = griffe.Function(
        name,
        lineno=member.lineno,
        endlineno=member.endlineno,
        docstring=griffe.Docstring(same),
        parameters=griffe.Parameters(
            griffe.Parameter("given", kind=griffe.ParameterKind.var_positional),
            griffe.Parameter("named", kind=griffe.ParameterKind.var_keyword),
        ),
    )
    made.labels.add("async")
    return made
