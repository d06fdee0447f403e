"""audit, prices, disabled users, keys that expire, attempts after a restore, waits

Going back loses the audit, the prices that operators have set, and when keys were to expire: they
are good for ever again. Tasks that were queued anew by a restore get no further attempt. It is
refused while users are disabled, whom the release before would let in, and while the next attempt
of a task could get a number that was used before a restore.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMNS: tuple[tuple[str, sa.Column[Any]], ...] = (
    ("users", sa.Column("disabled_at", sa.Double(), nullable=True)),
    ("api_keys", sa.Column("expires_at", sa.Double(), nullable=True)),
    ("tasks", sa.Column("attempt_floor", sa.Integer(), nullable=False, server_default="0")),
    ("tasks", sa.Column("attempts_before", sa.Integer(), nullable=False, server_default="0")),
    ("tasks", sa.Column("handed_over_at", sa.Double(), nullable=True)),
)
_REFUSED = "audit_entries: entries are added, never changed"


def upgrade() -> None:
    """Apply it."""
    for table, column in _COLUMNS:
        op.add_column(table, column._copy())
    op.create_table(
        "audit_entries",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    _append_only()
    op.create_table(
        "machine_prices",
        sa.Column("machine_type", sa.String(), nullable=False),
        sa.Column("on_demand", sa.Double(), nullable=True),
        sa.Column("spot", sa.Double(), nullable=True),
        sa.Column("set_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("machine_type", name=op.f("pk_machine_prices")),
    )
    rule = op.create_table(
        "schema_rule",
        sa.Column("oldest", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("oldest", name=op.f("pk_schema_rule")),
    )
    op.bulk_insert(rule, [{"oldest": revision}])


def _append_only() -> None:
    """Have the database itself refuse to change or delete an entry."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_entries_{verb.lower()} BEFORE {verb} ON audit_entries "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
            )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION audit_entries_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_entries_refuse BEFORE UPDATE OR DELETE ON audit_entries "
        "FOR EACH ROW EXECUTE FUNCTION audit_entries_refuse()"
    )


def downgrade() -> None:
    """Take it back."""
    _refuse_what_would_be_undone()
    op.drop_table("schema_rule")
    op.drop_table("machine_prices")
    op.drop_table("audit_entries")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION audit_entries_refuse()")
    for table, column in reversed(_COLUMNS):
        op.drop_column(table, column.name)


def _refuse_what_would_be_undone() -> None:
    for found, sentence in (
        ("users WHERE disabled_at IS NOT NULL", "users are disabled: enable them first"),
        (
            "tasks WHERE attempt_floor > attempt AND end_time IS NULL",
            "tasks wait for the first attempt after a restore: let them end first",
        ),
    ):
        count = op.get_bind().scalar(sa.text(f"SELECT count(*) FROM {found}"))
        if count:
            raise ValueError(f"migrate: {count} {sentence}.")
