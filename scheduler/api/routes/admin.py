"""What only operators may do: the server as a whole."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import StreamingResponse

from scheduler.api.bounded import BigNumber, StrictBody
from scheduler.api.deps import OperatorDep, RuntimeDep
from scheduler.api.serializers import isoformat_utc
from scheduler.api.strict import StrictRouter
from scheduler.services.accounts.audit import MOST_ENTRIES, add_audit_entry, audit_entries
from scheduler.services.backup.backup import stream_backup
from scheduler.services.control.orphans import examine
from scheduler.services.transaction import read, write

router = StrictRouter(prefix="/v1/admin", tags=["admin"])


class Examination(StrictBody):
    """Whether what is found is to be put right, and whether all outputs are to be looked for."""

    fix: bool = False
    storage: bool = False


@router.post("/doctor")
def doctor(rt: RuntimeDep, operator: OperatorDep, body: Examination) -> list[dict[str, Any]]:
    """Check consistency: orphaned machines, leases, users and uploads, and missing outputs."""
    findings = examine(rt, fix=body.fix, storage=body.storage)
    mended = [f"{finding.kind} {finding.what}" for finding in findings if finding.mended]
    if mended:
        write(rt, add_audit_entry, operator.username, "doctor_fix", "server", mended=mended)
    return [asdict(finding) for finding in findings]


@router.get("/backup")
def backup(rt: RuntimeDep, operator: OperatorDep) -> StreamingResponse:
    """All of the database as it is now, as a zip: what `simherd-scheduler restore` takes.

    It holds webhook secrets, and hashes of keys.
    """
    pieces = stream_backup(rt.store, operator.username)
    return StreamingResponse(pieces, media_type="application/zip")


@router.get("/audit")
def audit(
    rt: RuntimeDep,
    _user: OperatorDep,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
    before: BigNumber | None = None,
    actor: str | None = None,
    subject: str | None = None,
) -> list[dict[str, Any]]:
    """What operators have done, the newest first; `before`: older than the entry of this id."""
    rows = read(rt, audit_entries, limit=limit, before=before, actor=actor, subject=subject)
    return [
        {
            "id": entry.id,
            "at": isoformat_utc(entry.at),
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "facts": entry.facts,
        }
        for entry in rows
    ]
