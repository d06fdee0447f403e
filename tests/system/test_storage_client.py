"""`simherd.storage` and its command line, as a user has them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from simherd import errors, simulators, storage
from simherd.contract.transfers import TransferKind, TransferState
from tests.support.env import zipped
from tests.support.web import web_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.env import Done, Env
    from tests.support.web import Web


@pytest.fixture(autouse=True)
def _connected(env: Env, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIMHERD_API_URL", env.url)
    monkeypatch.setenv("SIMHERD_API_KEY", env.key)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def source() -> Iterator[Web]:
    with web_server() as made:
        made.files["mesh.stl"] = b"mesh"
        yield made


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder of the storage with two files: `a.txt` and `sub/b.txt`."""
    local, name = Path("local"), f"c{time.time_ns()}"
    (local / "sub").mkdir(parents=True)
    (local / "a.txt").write_text("first")
    (local / "sub" / "b.txt").write_text("second")
    assert storage.upload(local, name) == [f"{name}/a.txt", f"{name}/sub/b.txt"]
    shutil.rmtree(local)
    yield name
    for left in (name, f"{name}-2"):
        try:
            storage.remove(left)
        except errors.NotFound:
            continue


@pytest.mark.conforms("storage.upload", "storage.listdir", "storage.download", "storage.remove")
def test_a_folder_goes_there_and_comes_back(folder: str) -> None:
    entries = storage.listdir(folder, order_by="name", sort_order="asc")
    assert [(e.name, e.size, e.is_directory) for e in entries] == [
        *(("a.txt", 5, False), ("sub/", None, True))
    ]
    summed = storage.listdir(folder, order_by="size", recursive=True)
    assert [(e.name, e.size) for e in summed] == [("sub/", 6), ("a.txt", 5)]
    assert len(storage.listdir(folder, max_results=1)) == 1
    assert storage.download(folder, "got") == Path("got", folder)
    assert Path("got", folder, "sub", "b.txt").read_text() == "second"
    assert storage.download(f"/{folder}/a.txt").read_text() == "first"
    assert storage.remove(f"{folder}/sub") == 1
    assert [e.name for e in storage.listdir(folder)] == ["a.txt"]
    with pytest.raises(errors.NotFound):
        storage.download(f"{folder}/sub/b.txt")


@pytest.mark.conforms("storage.upload", "storage.listdir")
def test_more_files_than_fit_into_one_request(folder: str) -> None:
    many = Path("many")
    many.mkdir()
    for number in range(110):
        (many / f"{number:03}.txt").write_text(str(number))
    storage.upload(many, f"{folder}/many")
    found = storage.listdir(f"{folder}/many", None, "name", "asc")
    assert [e.name for e in found] == [f"{n:03}.txt" for n in range(110)]
    assert storage.download(f"{folder}/many/109.txt").read_text() == "109"


@pytest.mark.conforms("storage.download")
def test_zips_are_unpacked_or_kept_or_looked_into(folder: str) -> None:
    Path("output.zip").write_bytes(zipped({"x.txt": "x", "deep/y.txt": "y"}, "artifacts/"))
    storage.upload("output.zip", folder)
    whole = storage.download(f"{folder}/output.zip", "whole")
    assert whole == Path("whole", folder, "output")
    assert (whole / "artifacts" / "x.txt").read_text() == "x"
    kept = storage.download(f"{folder}/output.zip", "kept", decompress=False)
    assert kept.read_bytes() == Path("output.zip").read_bytes()
    one = storage.download(f"{folder}/output.zip/x.txt", "one")
    assert one == Path("one", folder, "output", "x.txt")
    assert one.read_text() == "x"
    deep = storage.download(f"{folder}/output.zip/deep", "some")
    assert (deep / "y.txt").read_text() == "y"
    with pytest.raises(errors.InvalidInput, match=r"no 'none\.txt' in"):
        storage.download(f"{folder}/output.zip/none.txt")


@pytest.mark.conforms("storage.download")
def test_a_file_of_a_tasks_outputs_is_had_alone() -> None:
    task = simulators.CustomImage("any").run(commands=["sh -c 'echo said'"])
    task.wait(silent_mode=True, download_std_on_completion=False)
    file = storage.download(f"{task.id}/output.zip/stdout.txt")
    assert "said" in file.read_text()
    assert [e.name for e in storage.listdir(task.id)]


@pytest.mark.conforms("storage.copy")
def test_a_copy_goes_over_nothing(folder: str) -> None:
    assert storage.copy(folder, f"{folder}-2") == 2
    assert storage.download(f"{folder}-2/sub/b.txt").read_text() == "second"
    with pytest.raises(errors.ApiError, match="there already"):
        storage.copy(folder, f"{folder}-2")


@pytest.mark.conforms("storage.upload_from_url")
def test_a_url_is_fetched(folder: str, source: Web) -> None:
    done = storage.upload_from_url(f"{source.url}/files/mesh.stl?a=b", folder, wait=True)
    assert (done.kind, done.state, done.path) == (
        TransferKind.FETCH,
        TransferState.DONE,
        f"{folder}/mesh.stl",
    )
    assert storage.download(f"{folder}/mesh.stl").read_text() == "mesh"
    begun = storage.upload_from_url(f"{source.url}/status/404", folder, "x.stl")
    with pytest.raises(errors.TransferError, match="returned 404"):
        begun.wait()
    assert begun.id in [t.id for t in storage.get_transfers() if t.error]
    with pytest.raises(errors.InvalidInput, match="no file name"):
        storage.upload_from_url(source.url, folder)


@pytest.mark.conforms("storage.export")
def test_a_file_is_exported_to_a_bucket(
    folder: str, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, bucket = s3["SIMHERD_S3_ENDPOINT_URL"], s3["SIMHERD_S3_BUCKET"]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    Path("big.bin").write_bytes(bytes(range(256)) * 4 * 6000)
    storage.upload("big.bin", folder)
    far = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    done = storage.export_to_s3(f"{folder}/big.bin", bucket, "out/big.bin", 5, wait=True)
    assert done.state == TransferState.DONE
    stored = far.get_object(Bucket=bucket, Key="out/big.bin")["Body"].read()
    assert stored == Path("big.bin").read_bytes()
    with pytest.raises(errors.TransferError, match="'no-such-bucket' takes no upload"):
        storage.export_to_s3(f"{folder}/big.bin", "no-such-bucket")
    with pytest.raises(errors.InvalidInput, match="is a folder"):
        storage.export_to_s3(folder, bucket)
    # Other tests have uploads of their own there.
    left = far.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert not [upload for upload in left if upload["Key"].startswith("out/")]


@pytest.mark.slow
@pytest.mark.conforms("storage export")
def test_an_export_is_begun_by_its_command(env: Env, folder: str, s3: dict[str, str]) -> None:
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    told = {"AWS_ENDPOINT_URL_S3": s3["SIMHERD_S3_ENDPOINT_URL"], **dict.fromkeys(keys, "test")}
    words = ("storage", "export", f"{folder}/a.txt", "--file-name", "out/a.txt", "--wait")
    done = env.cli(*words, "--bucket-name", s3["SIMHERD_S3_BUCKET"], more=told)
    assert done.returncode == 0, done.stderr
    far = boto3.client(
        "s3",
        endpoint_url=s3["SIMHERD_S3_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    stored = far.get_object(Bucket=s3["SIMHERD_S3_BUCKET"], Key="out/a.txt")["Body"].read()
    assert stored == b"first"


@pytest.mark.conforms(
    "storage.get_size", "storage.get_space_used", "storage.get_cost", "storage.get_buckets"
)
def test_how_much_is_stored(folder: str) -> None:
    assert storage.get_size() >= 11
    assert storage.get_space_used() >= 11
    assert storage.get_cost() == 0
    assert [(b["name"], b["default"]) for b in storage.get_buckets()] == [("local", True)]


def test_what_is_not_there_is_said(folder: str) -> None:
    Path("empty").mkdir()
    for local in ("none", "empty"):
        with pytest.raises(errors.InvalidInput, match="local_path"):
            storage.upload(local, folder)
    with pytest.raises(errors.InvalidInput, match="max_results"):
        storage.listdir(max_results=0)
    for call in (storage.listdir, storage.remove, storage.download):
        with pytest.raises(errors.NotFound):
            call("none/at/all")


@pytest.mark.slow
@pytest.mark.conforms(
    *("storage list", "storage upload", "storage download", "storage copy", "storage remove"),
    *("storage size", "storage bucket list", "storage fetch", "storage transfers"),
)
def test_the_command_line(env: Env, tmp_path: Path, source: Web) -> None:
    def cli(*arguments: str) -> Done:
        return env.cli("storage", *arguments, folder=tmp_path)

    name = f"cli{time.time_ns()}"
    (tmp_path / "a.txt").write_text("first")
    assert cli("ul", "a.txt", name).stdout == f"{name}/a.txt\n"
    assert cli("copy", f"{name}/a.txt", f"{name}/b.txt").returncode == 0
    listed = cli("ls", name, "--order-by", "name", "--sort-order", "asc").stdout
    assert listed.index("a.txt") < listed.index("b.txt") < listed.index("Stored in all: ")
    rows = json.loads(cli("list", name, "--json", "-m", "1").stdout)
    assert [r["size"] for r in rows] == [5]
    assert cli("dl", f"{name}/b.txt", "got").stdout == f"got/{name}/b.txt\n"
    assert (tmp_path / "got" / name / "b.txt").read_text() == "first"
    assert "is done" in cli("fetch", "--wait", f"{source.url}/files/mesh.stl", name).stdout
    assert "mesh.stl" in cli("transfers").stdout
    assert "a month" in cli("size").stdout
    assert "local" in cli("bucket", "ls").stdout
    assert cli("rm", name).returncode != 0  # nobody said yes
    assert cli("rm", "-y", name).stdout == f"Removed {name} (3 files).\n"
    gone = cli("rm", "-y", name)
    assert gone.returncode == 1
    assert "nothing is stored" in gone.stderr
    assert cli("rm", "-y").returncode == 2


@pytest.mark.slow
@pytest.mark.conforms("containers upload", "containers list", "containers remove")
def test_an_image_is_kept_in_the_storage(env: Env, tmp_path: Path) -> None:
    def cli(*arguments: str) -> Done:
        return env.cli("containers", *arguments, folder=tmp_path)

    (tmp_path / "mine.tar").write_bytes(b"image")
    name = f"images{time.time_ns()}"
    assert cli("upload", "mine.tar", f"{name}/solver").stdout == f"{name}/solver.tar\n"
    assert cli("upload", "mine.tar", f"{name}/solver").returncode != 0  # nobody said yes
    assert cli("upload", "-f", "mine.tar", f"{name}/solver.tar").returncode == 0
    assert "solver.tar" in cli("ls", name).stdout
    assert cli("rm", name, "-n", "solver.tar", "-y").returncode == 0
    assert "Nothing is stored there" in cli("ls", name).stdout
    missing = cli("upload", "none.tar")
    assert "image: there is no file 'none.tar'" in missing.stderr


@pytest.mark.docker
@pytest.mark.conforms("containers convert", "containers upload")
def test_an_image_of_the_local_docker_is_uploaded(env: Env, tmp_path: Path) -> None:
    done = env.cli("containers", "upload", "simherd/debian:bookworm", folder=tmp_path)
    assert done.stdout == "containers/simherd_debian_bookworm.tar\n", done.stderr
    file = storage.download("containers/simherd_debian_bookworm.tar", tmp_path)
    listed = subprocess.run(["tar", "-tf", file], capture_output=True, text=True, check=True)
    assert "manifest.json" in listed.stdout
    storage.remove("containers/simherd_debian_bookworm.tar")
    wrong = env.cli("containers", "convert", "no/such/image:here", "x.tar", folder=tmp_path)
    assert wrong.returncode == 1
    assert "`docker save` failed" in wrong.stderr
