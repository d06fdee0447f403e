"""The operator's tables: what is shipped, and one's own instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scheduler.catalogue.tables import load

if TYPE_CHECKING:
    from pathlib import Path


def test_the_shipped_tables_serve_the_guides() -> None:
    tables = load()
    assert tables.machine_types["c2-standard-4"].vcpus == 4
    assert all(0 < t.spot <= t.on_demand for t in tables.machine_types.values())
    assert tables.providers == {"GCP": ("local", "docker"), "LOCAL": ("local", "docker")}
    assert {"splishsplash", "reef3d", "gromacs"} <= set(tables.production)
    local = tables.resolve_image("docker://inductiva/kutu:splishsplash_v2.13.0")
    assert local == "simherd/splishsplash:local"
    assert tables.resolve_image("docker://debian:bookworm") == "debian:bookworm"


def test_an_operator_points_images_to_a_mirror(tmp_path: Path) -> None:
    file = tmp_path / "images.toml"
    file.write_text(
        '[production]\nreef3d = ["1"]\n[development]\n'
        '[[alias]]\nfrom = "docker://inductiva/kutu:reef3d_v1"\nto = "first"\n'
        '[[alias]]\nfrom = "docker://inductiva/*"\nto = "mirror.example/kutu:any"\n'
    )
    tables = load(images=file)
    assert tables.resolve_image("docker://inductiva/kutu:reef3d_v1") == "first"
    assert tables.resolve_image("docker://inductiva/kutu:gromacs_v1") == "mirror.example/kutu:any"
    assert dict(tables.production) == {"reef3d": ["1"]}


def test_a_table_that_lacks_something_is_named(tmp_path: Path) -> None:
    file = tmp_path / "types.toml"
    file.write_text('[providers]\n[[machine_type]]\nname = "x"\n')
    with pytest.raises(ValueError, match=r"types\.toml: .*vcpus"):
        load(machine_types=file)
