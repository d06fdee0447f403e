"""What the Python reference says that cannot be read from the code as it stands."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)Example:\n((?:\1    .*\n|\n)+)", re.MULTILINE)


class Simherd(griffe.Extension):
    """Named in mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """An example is code."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(_as_code, obj.docstring.value + "\n")

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """What describes a task and is decorated so submits it, and answers with the task."""
        if any(d.callable_path.endswith("._submitted") for d in func.decorators):
            func.returns = "Task"

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Methods of an aio.Task are those of a Task."""
        value = str(attr.value or "")
        if value.startswith("_aside("):
            path = f"simherd.tasks.Task.{attr.name}"
            attr.value = attr.annotation = None
            attr.docstring = griffe.Docstring(f"To be awaited; as [`Task.{attr.name}`][{path}].")


def _as_code(found: re.Match[str]) -> str:
    indent, code = found[1], found[2].rstrip("\n")
    return f"{indent}Example:\n{indent}    ```python\n{code}\n{indent}    ```\n"
