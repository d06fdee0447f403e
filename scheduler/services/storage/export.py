"""Sending a stored file to the part URLs of another storage, which then makes it whole."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import httpx

from scheduler.services.errors import Conflict, Invalid
from scheduler.services.storage.transfer_turn import MOST_ETAG, PART_S, check_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.services.storage.transfer_turn import Turn
    from scheduler.store.models import TransferRow
    from scheduler.wiring import Runtime

#: Bytes read from the storage at a time.
_BLOCK = 8 * 1024**2
#: Seconds to connect, and for an answer: a storage checks what it was sent before it answers.
_TIMEOUT = httpx.Timeout(PART_S / 2, connect=5)
#: Bytes of an answer that are looked at.
_MOST_ANSWER = 64 * 1024
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def export_some(rt: Runtime, turn: Turn) -> bool:
    """Send as many parts as there is time for; answers whether the other storage has it all.

    Raises:
        Again: the next turn may do better.
        Refused: the other server takes it not, or the file has changed.
        NotAllowed: a URL leads to where users' requests may not go.
    """
    row = turn.row
    found = rt.objects.stat(row.user_id, row.path)
    if found is None or found.size != row.size:
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
    ) as answer:
        check_answer(answer, f"part_url of part {number}")
        etag = answer.headers.get("etag")
    if not etag:
        raise Invalid(f"part_url of part {number}: the other server answered without an ETag.")
    if len(etag) > MOST_ETAG:
        raise Invalid(
            f"part_url of part {number}: the other server answered with an ETag of {len(etag)} "
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
    with client.stream("POST", row.url, content=text, headers=headers, timeout=_TIMEOUT) as answer:
        check_answer(answer, "complete_multipart_url")
        said = b""
        for chunk in answer.iter_raw():
            said += chunk
            if len(said) > _MOST_ANSWER:
                break
    # S3 begins to answer before it knows: an error may come after a 200.
    if b"<Error>" in said:
        raise Invalid("complete_multipart_url: the other server could not join the parts.")
