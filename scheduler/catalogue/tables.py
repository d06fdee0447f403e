"""Reading the operator's tables."""

from __future__ import annotations

import fnmatch
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class MachineType:
    """A kind of machine. Prices are US$ per machine and hour."""

    name: str
    vcpus: int
    memory_gb: int
    on_demand: float
    spot: float
    zone: str
    region: str
    gpus: int = 0
    gpu_name: str | None = None


@dataclass(frozen=True)
class Catalogue:
    """Machine types, provider names and simulator images."""

    machine_types: Mapping[str, MachineType]
    #: The wire's provider id → the providers it stands for: the first that is on is taken.
    providers: Mapping[str, tuple[str, ...]]
    production: Mapping[str, list[str]]
    development: Mapping[str, list[str]]
    aliases: tuple[tuple[str, str], ...]

    def resolve_image(self, image: str) -> str:
        """The reference that a machine's engine is given for a submitted one."""
        for pattern, target in self.aliases:
            if fnmatch.fnmatchcase(image, pattern):
                return target
        return image.removeprefix("docker://")


def load(machine_types: Path | None = None, images: Path | None = None) -> Catalogue:
    """Read the operator's files, or the shipped ones.
    Raises ValueError: a file lacks something; the message names the file and the entry."""
    types, pictures = _read(machine_types, "machine_types.toml"), _read(images, "images.toml")
    source = machine_types or "machine_types.toml"
    try:
        defaults = types.get("defaults", {})
        rows = [MachineType(**{**defaults, **row}) for row in types["machine_type"]]
        return Catalogue(
            {row.name: row for row in rows},
            {wire: _names(names) for wire, names in types["providers"].items()},
            dict(pictures["production"]),
            dict(pictures["development"]),
            tuple((a["from"], a["to"]) for a in pictures.get("alias", [])),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{source}: {error}") from error


def _names(given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"providers: {given!r} is not the name of a provider or a list of names")
    return names


def _read(path: Path | None, shipped: str) -> dict[str, Any]:
    if path is None:
        return tomllib.loads(files(__package__).joinpath(shipped).read_text(encoding="utf-8"))
    return tomllib.loads(path.read_text(encoding="utf-8"))
