"""The storage as the HTTP contract has it, and what lies beside the contract."""

from __future__ import annotations

import io
import json
import time
import zipfile
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import httpx
import pytest

from simherd.contract.upload_grant import LEAST_PART_BYTES
from tests.support.env import zipped
from tests.support.waits import until
from tests.support.web import web_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.env import Env
    from tests.support.web import Web


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with web_server() as made:
        made.files["mesh v1.stl"] = b"mesh"
        yield made


@pytest.fixture
def folder(env: Env) -> Iterator[str]:
    """A folder of the storage, for one test alone."""
    name = f"f{time.time_ns()}"
    yield name
    env.api.delete("/storage/", params={"path": name})


def put(env: Env, path: str, data: bytes | Iterator[bytes]) -> httpx.Response:
    (url,) = signed(env, "upload", path)
    return httpx.put(url, content=data, trust_env=False, timeout=60)


def signed(env: Env, operation: str, *paths: str, **more: str) -> list[str]:
    query = {"operation": operation, "paths": paths, **more}
    answer = env.api.get("/storage/signed-urls", params=query)
    assert answer.status_code == 200, answer.text
    urls: list[str] = answer.json()
    return urls


def listed(env: Env, path: str, **query: Any) -> dict[str, Any]:
    answer = env.api.get("/storage/contents", params={"path": path, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def names(found: dict[str, Any]) -> list[str]:
    return [row["name"] for row in found["contents"]]


@pytest.mark.conforms("GET /storage/signed-urls", "7.13", "7.14", "PUT a signed URL")
def test_signed_urls_are_absolute_and_name_the_path(env: Env, folder: str) -> None:
    path = f"{folder}/sub dir/ü+%.txt"
    chunks = iter([b"01234", b"56789"])  # no Content-Length, as the published client sends
    stored = put(env, path, chunks)
    assert (stored.status_code, stored.request.headers.get("content-length")) == (200, None)
    (url,) = signed(env, "download", path)
    # One segment before the path: agents and clients find the path by that.
    assert httpx.URL(url).path.split("/", 2)[2] == path
    assert url.startswith("http://")
    for _ in range(2):
        head = httpx.head(url, trust_env=False, timeout=60)
        assert (head.status_code, head.headers["content-length"]) == (200, "10")
        assert httpx.get(url, trust_env=False, timeout=60).content == b"0123456789"
        part = httpx.get(url, headers={"Range": "bytes=2-4"}, trust_env=False, timeout=60)
        assert (part.status_code, part.content) == (206, b"234")


@pytest.mark.conforms("GET /storage/signed-urls", "7.13")
def test_slashes_too_many_make_no_difference(env: Env, folder: str) -> None:
    assert put(env, f"/{folder}//a.txt", b"a").status_code == 200
    (url,) = signed(env, "download", f"{folder}/a.txt", region="local")
    assert httpx.get(url, trust_env=False, timeout=60).content == b"a"


@pytest.mark.conforms("GET /storage/signed-urls", "7.20")
def test_very_many_paths_keep_their_order(env: Env, folder: str) -> None:
    paths = [f"{folder}/{'x' * 60}/{n}.txt" for n in range(1500)]
    query = urlencode({"operation": "upload", "paths": paths}, doseq=True)
    assert len(query) > 100_000  # more than this library's own limit
    asked = Request(f"{env.url}/storage/signed-urls?{query}", headers={"X-API-Key": env.key})
    with urlopen(asked) as answer:
        urls = json.load(answer)
    assert [httpx.URL(u).path.split("/", 2)[2] for u in urls] == paths


@pytest.mark.conforms("GET /storage/signed-urls")
def test_a_folder_stands_for_its_files(env: Env, folder: str) -> None:
    for name in ("a.txt", "sub/b.txt"):
        put(env, f"{folder}/{name}", name.encode())
    urls = signed(env, "download", f"{folder}/")
    found = {
        httpx.URL(u).path.split("/", 2)[2]: httpx.get(u, trust_env=False, timeout=60).text
        for u in urls
    }
    assert found == {f"{folder}/a.txt": "a.txt", f"{folder}/sub/b.txt": "sub/b.txt"}


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/storage/signed-urls?operation=download&paths=none/a", 404),
        ("GET", "/storage/signed-urls?operation=upload&paths=a&region=mars", 404),
        ("GET", "/storage/signed-urls?operation=upload&paths=a/../b", 422),
        ("GET", "/storage/contents?path=none", 404),
        ("GET", "/storage/contents?path=/&region=mars", 404),
        ("GET", "/storage/contents?path=/&per_page=101", 422),
        ("GET", "/storage/zip-contents?path=none/a.zip", 404),
        ("GET", "/storage/zip-file-range?path=none/a.zip&filename=b", 404),
        ("DELETE", "/storage/?path=none/", 404),
        ("POST", "/storage/copy?source=none&target=other", 404),
        ("POST", "/storage/input_remote?url=file:///etc/passwd&path=a", 422),
        ("POST", "/storage/input_remote?url=http://example.org/a&path=b/", 422),
        ("POST", "/storage/export_multipart", 422),
        ("GET", "/v1/storage/transfers/none", 404),
        ("GET", "/v1/storage/files?path=none", 404),
    ],
)
def test_what_is_refused_is_said_in_detail(env: Env, method: str, path: str, code: int) -> None:
    answer = env.api.request(method, path)
    assert answer.status_code == code, answer.text
    assert answer.json()["detail"]


@pytest.mark.conforms("GET /storage/contents")
def test_a_folder_is_listed_in_pages(env: Env, folder: str) -> None:
    for name, size in (("b.txt", 20), ("a.txt", 30), ("sub/c.txt", 5), ("sub/d.txt", 6)):
        put(env, f"{folder}/{name}", bytes(size))
    found = listed(env, folder, sort_by="name", order="asc", region="all")
    assert names(found) == ["a.txt", "b.txt", "sub/"]
    assert found["total_files"] == 3
    assert found["available_regions"] == ["local"]
    assert [r["size_bytes"] for r in found["contents"]] == [30, 20, None]
    assert [r["is_directory"] for r in found["contents"]] == [False, False, True]
    assert names(listed(env, f"{folder}/", sort_by="size")) == ["a.txt", "b.txt", "sub/"]
    assert names(listed(env, folder, order="asc")) == ["sub/", "b.txt", "a.txt"]
    assert names(listed(env, folder, sort_by="name", order="asc", page=2, per_page=2)) == ["sub/"]
    assert names(listed(env, folder, page=9)) == []
    deep = listed(env, folder, recursive="true", sort_by="size")["contents"]
    assert [(r["name"], r["size_bytes"]) for r in deep] == [
        *(("a.txt", 30), ("b.txt", 20), ("sub/", 11))
    ]
    assert all(r["creation_time"].endswith("+00:00") for r in deep)
    assert names(listed(env, f"{folder}/a.txt")) == ["a.txt"]


@pytest.mark.conforms("7.18")
@pytest.mark.conforms("DELETE /storage/", "GET /storage/zip-contents", "GET /storage/contents")
def test_a_task_is_found_by_its_id_wherever_it_lies(env: Env, folder: str) -> None:
    task = env.submit("sh -c 'mkdir sub; echo hi > sub/deep.txt'", storage_path_prefix=folder)
    env.wait(task)
    (row,) = listed(env, folder)["contents"]
    assert (row["name"], row["creation_time"]) == (f"{task}/", env.task(task)["create_time"])
    # The name that guides have for it, and where it really lies.
    for path in (f"{task}/output.zip", env.task(task)["storage_output_path"]):
        info = env.api.get("/storage/zip-contents", params={"path": path}).json()
        assert "artifacts/sub/deep.txt" in names(info)
        (url,) = signed(env, "download", path)
        assert httpx.URL(url).path.split("/", 2)[2] == path
        assert len(httpx.get(url, trust_env=False, timeout=60).content) == info["size"]
    assert env.api.delete("/storage/", params={"path": f"{task}/"}).status_code == 200
    assert env.api.delete("/storage/", params={"path": f"{task}/"}).status_code == 404
    assert env.api.get("/storage/contents", params={"path": folder}).status_code == 404


@pytest.mark.conforms("GET /storage/zip-contents", "GET /storage/zip-file-range", "7.16")
@pytest.mark.parametrize("root", ["artifacts/", "artifacts", "artifactssub", "artifacts/sub/"])
def test_names_in_a_zip_are_relative_however_the_folder_is_spelt(
    env: Env, folder: str, root: str
) -> None:
    path = f"{folder}/output.zip"
    put(env, path, zipped({"a.txt": "first", "sub/b.txt": "second"}, "artifacts/"))
    query = {"path": path, "zip_relative_path": root, "recursive": "false"}
    found = env.api.get("/storage/zip-contents", params=query).json()
    below = "sub" in root
    assert names(found) == (["b.txt"] if below else ["a.txt", "sub/b.txt"])
    assert found["contents"][0]["size"] == len("second" if below else "first")
    member = names(found)[-1]
    ranged = env.api.get("/storage/zip-file-range", params={**query, "filename": member}).json()
    (url,) = signed(env, "download", path)
    wanted = {"Range": f"bytes={ranged['range_start']}-{ranged['range_end']}"}
    raw = httpx.get(url, headers=wanted, trust_env=False, timeout=60).content
    assert ranged["compress_type"] == zipfile.ZIP_DEFLATED
    assert zlib.decompress(raw, -zlib.MAX_WBITS) == b"second"


@pytest.mark.conforms("GET /storage/zip-contents")
def test_a_zip_with_a_month_0_is_listed_and_what_is_none_is_refused(env: Env, folder: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("a.txt")
        info.date_time = (1980, 0, 0, 0, 0, 0)
        archive.writestr(info, "a")
    put(env, f"{folder}/odd.zip", buffer.getvalue())
    put(env, f"{folder}/none.zip", b"no zip")
    odd = env.api.get("/storage/zip-contents", params={"path": f"{folder}/odd.zip"}).json()
    assert (names(odd), odd["contents"][0]["creation_time"]) == (["a.txt"], None)
    none = env.api.get("/storage/zip-contents", params={"path": f"{folder}/none.zip"})
    assert none.status_code == 422
    assert "is not a zip" in none.json()["detail"]


@pytest.mark.conforms("POST /storage/copy")
def test_files_and_folders_are_copied_but_over_nothing(env: Env, folder: str) -> None:
    def copy(source: str, target: str) -> httpx.Response:
        query = {"source": f"{folder}/{source}", "target": f"{folder}/{target}"}
        return env.api.post("/storage/copy", params=query)

    for name in ("from/a.txt", "from/sub/b.txt"):
        put(env, f"{folder}/{name}", name.encode())
    assert copy("from", "to").json() == {"copied": 2}
    assert copy("from/a.txt", "into/").status_code == 200
    assert names(listed(env, f"{folder}/into")) == ["a.txt"]
    assert names(listed(env, f"{folder}/to", sort_by="name", order="asc")) == ["a.txt", "sub/"]
    for source, target in (("from", "to"), ("from/a.txt", "to/a.txt"), ("from/a.txt", "into/")):
        answer = copy(source, target)
        assert answer.status_code == 409
        assert "is there already" in answer.json()["detail"]
    for source, target in (("from", "from"), ("from", "from/sub/x"), ("from/a.txt", "from/")):
        assert copy(source, target).status_code == 422
    (url,) = signed(env, "download", f"{folder}/to/sub/b.txt")
    env.api.delete("/storage/", params={"path": f"{folder}/from"})
    assert httpx.get(url, trust_env=False, timeout=60).content == b"from/sub/b.txt"


def test_a_file_is_not_stored_where_a_folder_is(env: Env, folder: str) -> None:
    assert put(env, f"{folder}/a/b.txt", b"b").status_code == 200
    for path in (f"{folder}/a", f"{folder}/a/b.txt/c.txt"):
        answer = put(env, path, b"x")
        assert answer.status_code == 409
        assert "Choose another path" in answer.json()["detail"]


@pytest.mark.conforms(
    "GET /storage/size",
    "GET /storage/cost",
    "GET /storage/list_buckets",
    "GET /storage/default_bucket",
)
def test_how_much_is_stored_and_where(env: Env, folder: str) -> None:
    before = env.api.get("/storage/size").json()
    put(env, f"{folder}/a.bin", bytes(12345))
    until(lambda: env.api.get("/storage/size").json() == before + 12345, what="the new size")
    assert env.api.get("/storage/cost").json() == {
        "estimated_monthly_cost": 0.0,
        "currency": "USD",
    }
    bucket = env.api.get("/storage/default_bucket").json()
    assert env.api.get("/storage/list_buckets").json() == [bucket]
    assert bucket == {
        "provider_id": "LOCAL",
        "name": "local",
        "region": "local",
        "is_internal": True,
    }


def ended(env: Env, begun: httpx.Response) -> dict[str, Any]:
    assert begun.status_code == 200, begun.text
    where = f"/v1/storage/transfers/{begun.json()['id']}"

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = env.api.get(where).json()
        return found if found["ended_at"] else None

    return until(look, what="the transfer to end")


@pytest.mark.conforms("POST /storage/input_remote")
def test_a_file_is_fetched_from_a_url(env: Env, folder: str, web: Web) -> None:
    query = {"url": f"{web.url}/to/mesh v1.stl?secret=1", "path": f"{folder}/mesh.stl"}
    web.files["mesh%20v1.stl"] = web.files["mesh v1.stl"]
    done = ended(env, env.api.post("/storage/input_remote", params=query))
    assert (done["state"], done["error"], done["moved_bytes"]) == ("done", None, 4)
    assert "secret" not in str(done)
    (url,) = signed(env, "download", f"{folder}/mesh.stl")
    assert httpx.get(url, trust_env=False, timeout=60).content == b"mesh"
    assert env.api.get("/v1/storage/transfers").json()[0] == done


@pytest.mark.conforms("POST /storage/input_remote")
def test_a_fetch_does_not_lead_inside(env: Env, folder: str, web: Web) -> None:
    for url in (f"{web.url}/inside", "http://127.0.0.2/", "http://[::1]/"):
        query = {"url": url, "path": f"{folder}/no"}
        failed = ended(env, env.api.post("/storage/input_remote", params=query))
        assert failed["state"] == "failed"
        assert "not on the public internet" in failed["error"]
    assert env.api.get("/storage/contents", params={"path": folder}).status_code == 404


@pytest.mark.conforms("POST /storage/export_multipart")
def test_a_file_is_exported_to_signed_urls(env: Env, folder: str, web: Web) -> None:
    data = b"0123456789abcdef" * (LEAST_PART_BYTES // 8 + 1)
    put(env, f"{folder}/a.bin", data)
    body = {
        "path": f"{folder}/a.bin",
        "parts_size": LEAST_PART_BYTES,
        "upload_parts": [
            {"part_number": n, "part_url": f"{web.url}/{folder}/{n}"} for n in (3, 1, 2)
        ],
        "complete_multipart_url": f"{web.url}/{folder}/whole",
    }
    done = ended(env, env.api.post("/storage/export_multipart", json=body))
    assert (done["state"], done["error"]) == ("done", None)
    sent = [web.stored[f"/{folder}/{n}"] for n in (1, 2, 3)]
    assert [len(part) for part in sent] == [LEAST_PART_BYTES, LEAST_PART_BYTES, 16]
    assert b"".join(sent) == data
    assert web.stored[f"/{folder}/whole"].count(b"<ETag>") == 3
    body["upload_parts"] = [{"part_number": 2, "part_url": web.url}]
    refused = env.api.post("/storage/export_multipart", json=body)
    assert refused.status_code == 422
    assert "upload_parts" in refused.json()["detail"]
