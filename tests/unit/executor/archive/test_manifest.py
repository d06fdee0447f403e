"""The list beside an archive: one line an entry, the sums last."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from executor.archive import PackResult
from executor.archive.manifest import OutputManifest

if TYPE_CHECKING:
    from pathlib import Path

PACKED = PackResult(2, 30, 20, (), complete=False)


@pytest.mark.parametrize("entries", [0, 1, 3])
def test_the_sums_follow_the_entries(tmp_path: Path, entries: int) -> None:
    with OutputManifest(tmp_path) as manifest:
        for number in range(entries):
            manifest.add({"path": f"f{number}", "kind": "file", "size": number})
        *lines, sums = manifest.finish(PACKED).splitlines()
    assert [json.loads(line)["path"] for line in lines] == [f"f{n}" for n in range(entries)]
    assert json.loads(sums) == {"files": 2, "bytes": 30, "archive_bytes": 20, "complete": False}


def test_a_long_list_is_whole_and_leaves_no_file(tmp_path: Path) -> None:
    with OutputManifest(tmp_path) as manifest:
        for number in range(50_000):
            manifest.add({"path": f"{number:0100}"})
        assert len(manifest.finish(PACKED).splitlines()) == 50_001
    assert os.listdir(tmp_path) == []
