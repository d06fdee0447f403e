"""Object storage: one behaviour, in a folder and in S3."""

from __future__ import annotations

import io
import os
import threading
import time
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import httpx
import pytest
import uvicorn

from scheduler.api.app import make_app
from scheduler.config import Settings
from scheduler.objects.archive import list_zip, raw_range
from scheduler.objects.base import NoSuchObject, ObjectStore, PathTaken
from scheduler.objects.folder import TEMPORARY, FolderStore
from scheduler.objects.s3 import S3Store
from scheduler.wiring import Runtime
from simherd.contract.objects import normalise
from simherd.contract.upload_grant import part_size
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.env import Env

USER = "user-1"
Served = Callable[[str], str]


class Put(Protocol):
    def __call__(self, path: str, data: bytes, user: str = USER) -> None: ...


@pytest.fixture(params=["folder", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ObjectStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "storage", "http://unused", "key")
    environment: dict[str, str] = request.getfixturevalue("s3")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = S3Store(
        environment["SIMHERD_S3_BUCKET"], "us-east-1", environment["SIMHERD_S3_ENDPOINT_URL"]
    )
    for info in list(made.list(USER, "")):
        made.delete(USER, info.path)
    return made


@pytest.fixture
def served(store: ObjectStore) -> Iterator[Served]:
    """Makes a signed URL reach its storage: the folder's are served by the API."""
    if not isinstance(store, FolderStore):
        yield lambda url: url
        return
    rt = Runtime(
        Settings(
            database_url="sqlite://",
            redis_url="redis://unused",
            broker_url="",
            signing_key="key",
        )
    )
    rt.__dict__["objects"] = store
    server = uvicorn.Server(uvicorn.Config(make_app(rt), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started, what="the API")
    port = server.servers[0].sockets[0].getsockname()[1]
    yield lambda url: url.replace("http://unused", f"http://127.0.0.1:{port}")
    server.should_exit = True
    thread.join()


@pytest.fixture
def put(store: ObjectStore) -> Put:
    def write(path: str, data: bytes, user: str = USER) -> None:
        if isinstance(store, FolderStore):
            file = store.file(user, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            new = file.with_name(f"{TEMPORARY}{time.time_ns()}")
            new.write_bytes(data)
            new.replace(file)  # as the API does: no object is ever written over
        else:
            url = store.sign(user, path, "upload", 60)
            assert httpx.put(url, content=data, trust_env=False, timeout=60).status_code == 200

    return write


def test_what_is_put_can_be_read_in_parts(store: ObjectStore, put: Put) -> None:
    put("a/b.bin", b"0123456789")
    info = store.stat(USER, "a/b.bin")
    assert info is not None
    assert (info.path, info.size) == ("a/b.bin", 10)
    assert abs(info.modified_at - time.time()) < 60
    assert store.read(USER, "a/b.bin", 2, 3) == b"234"
    assert store.read(USER, "a/b.bin", 8, 100) == b"89"


def test_what_is_not_there(store: ObjectStore, put: Put) -> None:
    put("a/b.bin", b"x")
    assert store.stat(USER, "a/none") is None
    assert store.stat(USER, "a") is None
    assert store.stat(USER, "a/b.bin/c") is None
    with pytest.raises(NoSuchObject):
        store.read(USER, "a/none", 0, 1)
    assert store.delete(USER, "none") == 0


def test_a_folder_is_listed_and_deleted_whole(store: ObjectStore, put: Put) -> None:
    for path in ("t/1/input.zip", "t/1/attempts/1/output.zip", "t/10/input.zip", "u.txt"):
        put(path, b"x")
    assert sorted(i.path for i in store.list(USER, "t/1")) == [
        "t/1/attempts/1/output.zip",
        "t/1/input.zip",
    ]
    assert {i.path for i in store.list(USER, "")} >= {"u.txt", "t/10/input.zip"}
    assert store.delete(USER, "t/1") == 2
    assert list(store.list(USER, "t/1")) == []
    assert store.stat(USER, "t/10/input.zip") is not None
    assert store.delete(USER, "u.txt") == 1


def test_a_folder_shows_what_lies_directly_in_it(store: ObjectStore, put: Put) -> None:
    for path in ("f/a.txt", "f/sub/b.txt", "f/sub/deep/c.txt", "f2/d.txt"):
        put(path, b"12")
    entries = {e.name: e for e in store.entries(USER, "f")}
    assert {e.name: (e.size, e.is_folder) for e in entries.values()} == {
        "a.txt": (2, False),
        "sub": (None, True),
    }
    assert abs((entries["a.txt"].modified_at or 0) - time.time()) < 60
    assert {e.name for e in store.entries(USER, "")} == {"f", "f2"}
    assert list(store.entries(USER, "none")) == list(store.entries(USER, "f/a.txt")) == []
    store.delete(USER, "f/sub/b.txt")
    store.delete(USER, "f/sub/deep/c.txt")
    assert [e.name for e in store.entries(USER, "f")] == ["a.txt"]


def test_a_copy_is_an_object_of_its_own(
    store: ObjectStore, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that it takes parts, as those of more than 5 GB do.
    monkeypatch.setattr("scheduler.objects.s3.COPY_PART_BYTES", 5 * 1024**2)
    data = os.urandom(6 * 1024**2)
    put("a.bin", data)
    for _ in range(2):
        store.copy(USER, "a.bin", "copies/b.bin")
    put("a.bin", b"other")
    store.delete(USER, "a.bin")
    assert store.read(USER, "copies/b.bin", 0, len(data) + 1) == data
    assert [i.path for i in store.list(USER, "")] == ["copies/b.bin"]
    for missing in ("a.bin", "copies"):
        with pytest.raises(NoSuchObject):
            store.copy(USER, missing, "c.bin")


def test_a_part_can_be_stored_from_here(store: ObjectStore) -> None:
    upload = store.begin_upload(USER, "p.bin")
    first = bytes(part_size(1))
    parts = [(n, store.store_part(USER, "p.bin", upload, n, d)) for n, d in ((1, first), (2, b"x"))]
    assert store.complete_upload(USER, "p.bin", upload, parts) == len(first) + 1
    assert store.read(USER, "p.bin", len(first) - 1, 9) == b"\0x"
    if isinstance(store, FolderStore):  # the S3 server of the tests breaks down over this
        with pytest.raises(NoSuchObject):
            store.store_part(USER, "p.bin", upload, 1, b"x")


def test_a_file_cannot_be_a_folder_on_a_disk(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, "http://unused", "key")
    (tmp_path / USER / "a").mkdir(parents=True)
    (tmp_path / USER / "a/b.txt").write_text("x")
    for path in ("a", "a/b.txt/c"):
        with pytest.raises(PathTaken):
            store.begin_upload(USER, path)
        with pytest.raises(PathTaken):
            store.copy(USER, "a/b.txt", path)
    store.delete(USER, "a/b.txt")
    store.begin_upload(USER, "a")  # an empty folder is none


def test_an_object_made_of_parts(store: ObjectStore, served: Served) -> None:
    upload = store.begin_upload(USER, "t/big.zip")
    first, last = os.urandom(part_size(1)), b"the end"
    parts = []
    # In whatever order they come, and one of them twice.
    for number, data in ((2, last), (1, bytes(part_size(1))), (1, first)):
        url = served(store.sign_part(USER, "t/big.zip", upload, number, 60))
        answer = httpx.put(url, content=data, trust_env=False, timeout=60)
        assert answer.status_code == 200, answer.text
        parts.append((number, answer.headers["etag"]))
    assert store.stat(USER, "t/big.zip") is None
    assert list(store.list(USER, "t")) == []
    for _ in range(2):  # a completion whose answer was lost is asked for again
        assert store.complete_upload(USER, "t/big.zip", upload, [parts[2], parts[0]]) == len(
            first + last
        )
    assert store.read(USER, "t/big.zip", len(first) - 1, 100) == first[-1:] + last


def test_an_upload_that_was_given_up_leaves_nothing(store: ObjectStore, served: Served) -> None:
    upload = store.begin_upload(USER, "t/big.zip")
    url = served(store.sign_part(USER, "t/big.zip", upload, 1, 60))
    assert httpx.put(url, content=b"x", trust_env=False, timeout=60).status_code == 200
    for _ in range(2):
        store.abort_upload(USER, "t/big.zip", upload)
    assert httpx.put(url, content=b"x", trust_env=False, timeout=60).status_code >= 400
    assert list(store.list(USER, "")) == []


@pytest.mark.fault("B44")
def test_users_do_not_see_each_other(store: ObjectStore, put: Put) -> None:
    put("mine.txt", b"x")
    put("theirs.txt", b"y", user="user-2")
    assert store.stat("user-2", "mine.txt") is None
    assert "theirs.txt" not in {i.path for i in store.list(USER, "")}
    store.delete("user-2", "theirs.txt")


def test_a_zip_is_listed_without_being_fetched(
    store: ObjectStore, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    big = os.urandom(3_000_000)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("artifacts/", "")
        archive.writestr("artifacts/big.bin", big)
        archive.writestr("artifacts/small.txt", b"small", zipfile.ZIP_DEFLATED)
    put("out.zip", buffer.getvalue())
    fetched = []
    read = store.read

    def counted(user: str, path: str, start: int, length: int) -> bytes:
        data = read(user, path, start, length)
        fetched.append(len(data))
        return data

    monkeypatch.setattr(store, "read", counted)
    listing = list_zip(store, USER, "out.zip")
    assert [(m.name, m.size) for m in listing.members] == [
        ("artifacts/big.bin", len(big)),
        ("artifacts/small.txt", 5),
    ]
    assert listing.size == len(buffer.getvalue())
    assert sum(fetched) < 1_000_000
    first, last = raw_range(store, USER, "out.zip", listing.members[0])
    assert read(USER, "out.zip", first, last - first + 1) == big


def test_what_is_no_zip_is_said_to_be_none(store: ObjectStore, put: Put) -> None:
    put("text.txt", b"no zip at all")
    with pytest.raises(ValueError, match=r"text\.txt is not a zip"):
        list_zip(store, USER, "text.txt")
    with pytest.raises(NoSuchObject):
        list_zip(store, USER, "none.zip")


@pytest.mark.fault("B44")
@pytest.mark.parametrize(
    "path", ["", "/", "..", "a/../b", "./a", "a\\b", "a\0b", "x" * 1000, "x" * 256]
)
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        normalise(path)


#: Names that a shell, a URL or a file system could take for something else.
STRANGE = (
    *("space at its end ", " space before", "100%", "%2e%2e%2fetc", "a%00b", "emoji 🐑"),
    *("a+b&c=d?e#f", "..a", "a..", "...", "~", "-rf", "$(reboot)", "n" * 255, "é" * 127),
)


@pytest.mark.fault("B44")
def test_strange_names_are_kept_below_their_user(store: ObjectStore, put: Put) -> None:
    for name in STRANGE:
        put(f"strange/{name}", name.encode())
        assert store.read(USER, f"strange/{name}", 0, 1000) == name.encode()
        assert store.stat("user-2", f"strange/{name}") is None
    found = [info.path for info in store.list(USER, "strange")]
    assert sorted(found) == sorted(f"strange/{name}" for name in STRANGE)
    assert normalise("//a///b/") == "a/b"
    with pytest.raises(ValueError, match="900 bytes"):
        normalise("/".join(["n" * 200] * 6))


@pytest.fixture
def signed(env: Env) -> Iterator[tuple[str, str]]:
    """URLs of the folder storage for one object: to upload it, and to download it."""
    path = f"signed/{time.time_ns()}.bin"
    urls = [
        env.api.get("/storage/signed-urls", params={"operation": verb, "paths": path})
        for verb in ("upload", "download")
    ]
    assert (
        httpx.put(urls[0].json()[0], content=b"0123456789", trust_env=False, timeout=60).status_code
        == 200
    )
    urls[1] = env.api.get("/storage/signed-urls", params={"operation": "download", "paths": path})
    yield urls[0].json()[0], urls[1].json()[0]
    env.api.delete("/storage/", params={"path": path})


def test_a_signed_url_serves_head_ranges_and_chunks(signed: tuple[str, str]) -> None:
    up, down = signed
    chunks = iter([b"abc", b"def"])
    assert httpx.put(up, content=chunks, trust_env=False, timeout=60).status_code == 200
    head = httpx.head(down, trust_env=False, timeout=60)
    assert (head.status_code, head.headers["content-length"]) == (200, "6")
    part = httpx.get(down, headers={"Range": "bytes=1-3"}, trust_env=False, timeout=60)
    assert (part.status_code, part.content) == (206, b"bcd")
    assert part.headers["content-range"] == "bytes 1-3/6"
    tail = httpx.get(down, headers={"Range": "bytes=-2"}, trust_env=False, timeout=60)
    assert tail.content == b"ef"
    assert (
        httpx.get(down, headers={"Range": "bytes=9-"}, trust_env=False, timeout=60).status_code
        == 416
    )


def test_a_signed_url_opens_nothing_else(signed: tuple[str, str]) -> None:
    up, down = signed
    other = down.replace(".bin", ".txt")
    forged = down[:-4] + "0000"
    later = down.replace("expires=", "expires=9")
    for url in (other, forged, later, up):
        assert httpx.get(url, trust_env=False, timeout=60).status_code == 403
    assert httpx.put(down, content=b"x", trust_env=False, timeout=60).status_code == 403
    assert httpx.get(down, trust_env=False, timeout=60).content == b"0123456789"


def test_a_signature_runs_out(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, "http://unused", "key")
    url = httpx.URL(store.sign(USER, "a.bin", "download", valid_s=-1))
    assert not store.urls.verified(
        USER, "a.bin", "download", url.params["expires"], url.params["signature"]
    )
    good = httpx.URL(store.sign(USER, "a.bin", "download", valid_s=60))
    assert store.urls.verified(
        USER, "a.bin", "download", good.params["expires"], good.params["signature"]
    )


def test_urls_lead_to_the_buckets_own_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    url = S3Store("outputs", "eu-central-1").sign("ada", "a.zip", "download", 60)

    # Elsewhere a new bucket is answered with a redirection, for which the signature is not good.
    assert url.startswith("https://outputs.s3.eu-central-1.amazonaws.com/t/ada/a.zip?")
