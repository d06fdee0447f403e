"""`simherd storage`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from simherd import storage
from simherd.cli.parts import Verbs, confirm, exactly_one, yes_option
from simherd.cli.render import Columns, as_json, echo, json_option, listing, moment, table
from simherd.cli.watch import shows
from simherd.errors import NotFound
from simherd.utils import format_bytes, format_money

if TYPE_CHECKING:
    from simherd.storage import Entry, Transfer

region_option = click.option("-r", "--region", help="Storage region.")
max_results_option = click.option(
    "-m", "--max-results", default=10, show_default=True, type=click.IntRange(1), help="Entries."
)
_HEADERS = ["NAME", "SIZE", "CREATED", "REGION"]


@click.group(cls=Verbs)
def command() -> None:
    """List, upload, download, copy and remove what is stored on the server."""


@command.command("list")
@click.argument("path", default="/")
@max_results_option
@click.option(
    "-o",
    "--order-by",
    type=click.Choice(["creation_time", "size", "name"]),
    default="creation_time",
    show_default=True,
)
@click.option(
    "-s", "--sort-order", type=click.Choice(["desc", "asc"]), default="desc", show_default=True
)
@click.option("--all", "all_", is_flag=True, help="All entries.")
@click.option("--sizes", is_flag=True, help="Look through folders for their sizes.")
@region_option
@shows
def list_(
    path: str,
    max_results: int,
    order_by: Any,
    sort_order: Any,
    all_: bool,
    sizes: bool,
    region: str | None,
    json_: bool,
) -> None:
    """List the contents of PATH."""
    most = None if all_ else max_results
    show(storage.listdir(path, most, order_by, sort_order, sizes, region), json_)


def show(entries: list[Entry], json_: bool) -> None:
    """Print a listing, for people with what is stored in all."""
    if json_:
        as_json([asdict(e) for e in entries])
        return
    rows = [[e.name, _size(e), moment(e.creation_time), e.region] for e in entries]
    table(_HEADERS, rows, "Nothing is stored there.")
    echo(_total())


def _size(entry: Entry) -> str | None:
    return None if entry.size is None else format_bytes(entry.size)


def _total() -> str:
    size, cost = storage.get_size(), storage.get_cost()
    return f"Stored in all: {format_bytes(size)}, {format_money(cost)} a month."


@command.command()
@click.argument("local_path", type=click.Path())
@click.argument("remote_dir")
@region_option
def upload(local_path: str, remote_dir: str, region: str | None) -> None:
    """Upload a file, or all files in a folder, to the folder REMOTE_DIR."""
    for path in storage.upload(local_path, remote_dir, region):
        echo(path)


@command.command()
@click.argument("remote_path")
@click.argument("local_dir", default="")
@click.option("--decompress", is_flag=True, help="Unpack zips.")
@region_option
def download(remote_path: str, local_dir: str, decompress: bool, region: str | None) -> None:
    """Download a file, a folder, or a file inside a zip into the folder LOCAL_DIR."""
    echo(storage.download(remote_path, local_dir, decompress, region))


@command.command()
@click.argument("paths", nargs=-1)
@yes_option
@click.option("-a", "--all", "all_", is_flag=True, help="Everything.")
@region_option
def remove(paths: tuple[str, ...], yes: bool, all_: bool, region: str | None) -> None:
    """Remove files, and folders with their contents."""
    exactly_one("Give either paths or --all.", paths, all_)
    if all_:
        paths = tuple(e.name for e in storage.listdir(max_results=None, region=region))
    if not paths:
        echo("Nothing is stored there.")
        return
    if not yes:
        # Where it is missing, the server says so before the question.
        for path in paths:
            storage.listdir(path, 1, region=region)
    lines = ["You are about to remove from the storage:", *(f"  {path}" for path in paths)]
    confirm("\n".join([*lines, "Remove them for good?"]), yes)
    _remove_each(paths, region)


def _remove_each(paths: tuple[str, ...], region: str | None) -> None:
    missing = False
    for path in paths:
        try:
            count = storage.remove(path, region)
        except NotFound as error:
            missing = True
            echo(f"Error: {error}", err=True)
        else:
            echo(f"Removed {path} ({count} file{'s' * (count != 1)}).")
    sys.exit(missing)


@command.command()
@click.argument("source")
@click.argument("target")
@region_option
def copy(source: str, target: str, region: str | None) -> None:
    """Copy a file or folder within the storage; with a TARGET/ it keeps its name."""
    count = storage.copy(source, target, region)
    echo(f"Copied {count} file{'s' * (count != 1)}.")


@command.command()
@click.argument("url")
@click.argument("remote_dir")
@click.option("--file-name", help="Its name there; by default the one in the URL.")
@click.option("-w", "--wait", is_flag=True, help="Wait until it is there.")
@region_option
@json_option
def fetch(
    url: str, remote_dir: str, file_name: str | None, wait: bool, region: str | None, json_: bool
) -> None:
    """Have the server fetch a file from the web to the folder REMOTE_DIR."""
    _show_begun(storage.upload_from_url(url, remote_dir, file_name, region, wait), json_)


@command.command()
@click.argument("path")
@click.option("--bucket-name", required=True, help="Bucket to send it to.")
@click.option("--export-to", type=click.Choice(["aws-s3"]), default="aws-s3", show_default=True)
@click.option("--file-name", help="Its name there; by default its own.")
@click.option("--part-size", default=128, show_default=True, help="MiB sent at a time.")
@click.option("-w", "--wait", is_flag=True, help="Wait until it is there.")
@region_option
@json_option
def export(
    path: str,
    bucket_name: str,
    export_to: str,
    file_name: str | None,
    part_size: int,
    wait: bool,
    region: str | None,
    json_: bool,
) -> None:
    """Have the server send a stored file to your S3 bucket.

    Your AWS keys are read where the AWS tools keep them, and are not sent to the server.
    """
    begun = storage.export_to_s3(path, bucket_name, file_name, part_size, region, wait)
    _show_begun(begun, json_)


def _show_begun(transfer: Transfer, json_: bool) -> None:
    if json_:
        as_json(asdict(transfer))
    else:
        echo(f"The {transfer.kind} of {transfer.path} is {transfer.state}.")


@command.command()
@shows
def transfers(json_: bool) -> None:
    """List fetches from the web and exports, newest first."""
    columns: Columns = {
        "ID": "id",
        "KIND": "kind",
        "PATH": "path",
        "WITH": "host",
        "STATE": "state",
        "MOVED": lambda t: format_bytes(t["moved"]),
        "SIZE": lambda t: format_bytes(t["size"]),
        "BEGUN": lambda t: moment(t["created_at"]),
        "ERROR": lambda t: t["error"] or "",
    }
    found = [asdict(t) for t in storage.get_transfers()]
    listing(found, columns, "There are no fetches or exports.", json_)


@command.command()
@shows
def size(json_: bool) -> None:
    """Show how much is stored, and what it costs."""
    if json_:
        cost = storage.get_cost()
        as_json({"size": storage.get_size(), "estimated_monthly_cost": cost})
    else:
        echo(_total())


@command.group(cls=Verbs)
def bucket() -> None:
    """Show the server's storages."""


@bucket.command("list")
@shows
def list_buckets(json_: bool) -> None:
    """List the server's storages."""
    columns: Columns = {
        "NAME": "name",
        "PROVIDER": "provider_id",
        "REGION": "region",
        "DEFAULT": lambda b: "yes" if b["default"] else "",
    }
    listing(storage.get_buckets(), columns, "There are no storages.", json_)
