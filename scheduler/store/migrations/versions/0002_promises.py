"""policy and reconnect window of groups, health of machines, usage of tasks

Going back loses the policies and reconnect windows of groups, what was noted of bad machines, and
the series of what tasks used.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply it."""
    # Not as a batch: on SQLite that copies the table, and tasks refer to it.
    op.add_column(
        "machine_groups",
        sa.Column("reconnect_s", sa.Double(), nullable=False, server_default="600"),
    )
    op.add_column(
        "machine_groups", sa.Column("policy", sa.JSON(), nullable=False, server_default="{}")
    )
    op.add_column("machines", sa.Column("failures", sa.String(), nullable=False, server_default=""))
    op.add_column("machines", sa.Column("drain_reason", sa.String(), nullable=True))
    op.create_table(
        "usage_samples",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("cpu_seconds", sa.Double(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("processes", sa.Integer(), nullable=False),
        sa.Column("read_bytes", sa.BigInteger(), nullable=False),
        sa.Column("written_bytes", sa.BigInteger(), nullable=False),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_usage_samples_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_samples")),
    )
    with op.batch_alter_table("usage_samples", schema=None) as batch_op:
        batch_op.create_index("ix_usage_samples_task_at", ["task_id", "at"], unique=False)


def downgrade() -> None:
    """Take it back."""
    op.drop_table("usage_samples")
    op.drop_column("machines", "drain_reason")
    op.drop_column("machines", "failures")
    op.drop_column("machine_groups", "policy")
    op.drop_column("machine_groups", "reconnect_s")
