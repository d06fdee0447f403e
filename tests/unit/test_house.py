"""The house stays in order: no circles, unique names, small folders and files.

The numbers and lists in capitals are ratchets: only ever lower a number or shorten a list.
`python -m scripts.pages.rooms --count` prints the figures.
"""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest

from scripts.pages.import_graph import Checkout, Kind, circles, nodes, shared_class_names
from scripts.pages.rooms import drawing
from tests.conftest import REPOSITORY

#: Modules of all circles together, by the imports that are counted.
MODULES_IN_CIRCLES = {
    (Kind.LOAD,): 0,
    (Kind.LOAD, Kind.FUNCTION): 0,
    tuple(Kind): 0,
}
#: Public class names that several modules may define, and why.
SHARED_NAMES = {"Task": "a handle for users, a row of the task store"}
#: Private attributes of a library that the code uses, and why no public one will do.
PRIVATE_ATTRIBUTES = {
    ("simherd.transfers.zip_members", "_Decompress"): "zlib has no public name for the type",
}
#: A private name as an attribute, and as one that a package defines: bare, or on itself.
PRIVATE = re.compile(r"(?<!self)(?<!cls)\.(_[A-Za-z]\w*)")
OWN_PRIVATE = re.compile(r"(?:(?<![\w.])|(?<=self\.)|(?<=cls\.))(_[A-Za-z]\w*)")
#: Methods that every named tuple has, private only to stay clear of its fields.
NAMED_TUPLE = {"_asdict", "_replace", "_fields", "_make"}
#: Calls that unpack a tuple written in the call, as `f(*(a, b))`: by package.
PACKED_CALLS = {"simherd": 0, "scheduler": 0, "executor": 0, "simherd_drills": 0}
#: Modules side by side in a folder.
FOLDER_FILES = 20
#: Folders that have more, and how many.
LARGE_FOLDERS = {
    "simherd": 31,  # two of them until 0.3: names that running scripts of 0.1 import
    "simherd.cli": 32,
    "simherd.contract": 23,
    "scheduler.api.routes": 22,
}
#: Lines of a file, and the files that have more, with how many.
FILE_LINES = 420
LARGE_FILES: dict[str, int] = {}


@pytest.fixture(scope="module")
def checkout() -> Checkout:
    return Checkout(REPOSITORY)


@pytest.mark.parametrize("kinds", MODULES_IN_CIRCLES, ids=" or ".join)
def test_modules_do_not_import_each_other_in_circles(
    checkout: Checkout, kinds: tuple[Kind, ...]
) -> None:
    found = circles(checkout.modules(*kinds))
    assert sum(map(len, found)) <= MODULES_IN_CIRCLES[kinds], [sorted(c) for c in found]


def test_a_public_class_name_is_defined_once(checkout: Checkout) -> None:
    shared = shared_class_names(checkout.trees)
    assert {n: m for n, m in shared.items() if n not in SHARED_NAMES} == {}
    assert set(SHARED_NAMES) <= set(shared), "a name is unique by now: take it off the list"


def test_no_private_attribute_of_a_library_is_used(checkout: Checkout) -> None:
    found = set()
    for package in PACKED_CALLS:
        texts = {
            module: file.read_text()
            for module, file in checkout.files.items()
            if module.partition(".")[0] == package and "migrations" not in module
        }
        ours = {name for text in texts.values() for name in OWN_PRIVATE.findall(text)}
        found |= {(m, n) for m, text in texts.items() for n in PRIVATE.findall(text)} - {
            (m, n) for m in texts for n in ours | NAMED_TUPLE
        }
    assert found - set(PRIVATE_ATTRIBUTES) == set()
    assert set(PRIVATE_ATTRIBUTES) <= found, "an attribute is not used any more"


def test_no_call_unpacks_a_tuple_that_is_written_in_it(checkout: Checkout) -> None:
    packed = [
        (module, node.lineno)
        for module, file in checkout.files.items()
        for node in nodes(file)
        if isinstance(node, ast.Call)
        for argument in node.args
        if isinstance(argument, ast.Starred) and isinstance(argument.value, ast.Tuple)
    ]
    numbers = Counter(module.partition(".")[0] for module, _ in packed)
    for package, limit in PACKED_CALLS.items():
        assert numbers[package] <= limit, [p for p in packed if p[0].startswith(package)]


def test_folders_stay_small(checkout: Checkout) -> None:
    modules = (name for name in checkout.files if name not in checkout.packages)
    for folder, number in Counter(checkout.room(name) for name in modules).items():
        assert number <= LARGE_FOLDERS.get(folder, FOLDER_FILES), folder


def test_files_stay_small(checkout: Checkout) -> None:
    for module, file in checkout.files.items():
        lines = len(file.read_text().splitlines())
        assert lines <= LARGE_FILES.get(module, FILE_LINES), module


def test_the_picture_of_the_rooms_is_what_the_imports_say(checkout: Checkout) -> None:
    """If it is not: `python -m scripts.pages.rooms > docs/rooms.svg`."""
    assert (REPOSITORY / "docs" / "rooms.svg").read_text() == drawing(checkout)
