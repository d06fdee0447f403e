"""Sending a stored file to the part URLs of another storage, and completing the upload there."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import httpx

from scheduler.services.errors import Conflict, Invalid
from scheduler.services.storage.transfer_turn import MOST_ETAG, PART_S, check_response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.services.storage.transfer_turn import Turn
    from scheduler.store.models import TransferRow
    from scheduler.wiring import Runtime

#: Bytes read from the storage at a time.
_BLOCK = 8 * 1024**2
#: Seconds to connect, and for a response: a storage checks a part before it responds.
_TIMEOUT = httpx.Timeout(PART_S / 2, connect=5)
#: Bytes of a response that are read.
_MOST_RESPONSE = 64 * 1024
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def export_some(rt: Runtime, turn: Turn) -> bool:
    """Send as many parts as there is time for; return whether all are sent and joined.

    Raises:
        Again: the next turn may do better.
        Invalid, Conflict: the other server refuses, or the file has changed.
        NotAllowed: users' requests must not go to a URL's address.
    """
    row = turn.row
    info = rt.objects.stat(row.user_id, row.path)
    if info is None or info.size != row.size:
        raise Conflict(f"path: {row.path!r} was changed or removed while it was exported.")
    with turn.client(rt.settings) as client:
        while turn.goes_on():
            if len(row.parts) == len(row.part_urls):
                _complete(client, row)
                return True
            _send_part(rt, client, turn)
    return False


def _send_part(rt: Runtime, client: httpx.Client, turn: Turn) -> None:
    row, number = turn.row, len(turn.row.parts) + 1
    assert row.size is not None
    assert row.part_size is not None
    length = min(row.part_size, row.size - row.moved)
    with client.stream(
        "PUT",
        row.part_urls[number - 1],
        content=_blocks(rt, turn, row.moved, length),
        headers={"Content-Length": str(length)},
        timeout=_TIMEOUT,
    ) as response:
        check_response(response, f"part_url of part {number}")
        etag = response.headers.get("etag")
    if not etag:
        raise Invalid(f"part_url of part {number}: the other server responded without an ETag.")
    if len(etag) > MOST_ETAG:
        raise Invalid(
            f"part_url of part {number}: the other server responded with an ETag of {len(etag)} "
            f"characters; at most {MOST_ETAG} are taken."
        )
    row.parts.append([number, etag])
    row.moved += length


def _blocks(rt: Runtime, turn: Turn, start: int, length: int) -> Iterator[bytes]:
    end = start + length
    while start < end:
        turn.check()
        data = rt.objects.read(turn.row.user_id, turn.row.path, start, min(_BLOCK, end - start))
        start += len(data)
        yield data


def _complete(client: httpx.Client, row: TransferRow) -> None:
    body = ElementTree.Element("CompleteMultipartUpload", xmlns=_NAMESPACE)
    for number, etag in row.parts:
        part = ElementTree.SubElement(body, "Part")
        ElementTree.SubElement(part, "PartNumber").text = str(number)
        ElementTree.SubElement(part, "ETag").text = etag
    text = ElementTree.tostring(body, encoding="utf-8", xml_declaration=True)
    headers = {"Content-Type": "application/xml"}
    with client.stream(
        "POST", row.url, content=text, headers=headers, timeout=_TIMEOUT
    ) as response:
        check_response(response, "complete_multipart_url")
        received = b""
        for chunk in response.iter_raw():
            received += chunk
            if len(received) > _MOST_RESPONSE:
                break
    # S3 responds before it has joined the parts: an error may follow a status of 200.
    if b"<Error>" in received:
        raise Invalid("complete_multipart_url: the other server could not join the parts.")
