"""machines that join, money, checkpoints, attempts with a history of their own

Going back loses who is an operator, quotas, prices of single machines, the history of attempts,
checkpoints (their files stay in the storage), priorities and cost limits. Machines that have joined
must join anew.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS: dict[str, list[sa.Column[Any]]] = {
    "users": [
        sa.Column("is_operator", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("quotas", sa.JSON(), nullable=False, server_default="{}"),
    ],
    "machine_groups": [
        sa.Column("shared", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("on_demand_fallback", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("status_detail", sa.String(), nullable=True),
        sa.Column("refusals", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("hard_refusals", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("retry_at", sa.Double(), nullable=True),
        sa.Column("scaled_at", sa.Double(), nullable=True),
    ],
    "machines": [
        sa.Column("launched_at", sa.Double(), nullable=True),
        sa.Column("spot", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("price_hour", sa.Double(), nullable=False, server_default="0"),
        sa.Column("join_digest", sa.String(), nullable=True),
        sa.Column("join_expires_at", sa.Double(), nullable=True),
        sa.Column("secret_digest", sa.String(), nullable=True),
        sa.Column("secret_at", sa.Double(), nullable=True),
        sa.Column("reclaim_at", sa.Double(), nullable=True),
    ],
    "tasks": [
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("max_cost", sa.Double(), nullable=True),
    ],
}


def upgrade() -> None:
    """Apply it."""
    for table, columns in _COLUMNS.items():
        for column in columns:
            op.add_column(table, column._copy())
    op.create_index("ix_machines_join_digest", "machines", ["join_digest"])
    op.create_table(
        "attempts",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("machine_id", sa.String(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("saved", sa.JSON(), nullable=False, server_default="{}"),
        sa.Column("price_hour", sa.Double(), nullable=False, server_default="0"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_attempts_task_id")),
        sa.PrimaryKeyConstraint("task_id", "attempt", name=op.f("pk_attempts")),
    )
    op.create_index("ix_attempts_machine_id", "attempts", ["machine_id"])
    op.create_table(
        "checkpoints",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_checkpoints_task_id")),
        sa.PrimaryKeyConstraint("task_id", "generation", name=op.f("pk_checkpoints")),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("checkpoints")
    op.drop_table("attempts")
    op.drop_index("ix_machines_join_digest", "machines")
    for table, columns in _COLUMNS.items():
        for column in columns:
            op.drop_column(table, column.name)
