"""groups on several Redis servers, and duties that one of several processes has"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

#: The server that there was.
_MAIN = "main"


def upgrade() -> None:
    """Apply it."""
    # Tasks before groups, as whoever writes to both has it.
    # The queue is compared with SQL page by page, in this order, and by what was queued last.
    op.create_index("ix_tasks_group_status_seq", "tasks", ["group_id", "status", "seq"])
    op.create_index(
        "ix_tasks_group_status_queued", "tasks", ["group_id", "status", "queued_at", "seq"]
    )
    op.create_index("ix_tasks_group_end", "tasks", ["group_id", "end_time"])
    op.drop_index("ix_tasks_group_status", "tasks")
    op.add_column(
        "machine_groups",
        sa.Column("redis_server", sa.String(), nullable=False, server_default=_MAIN),
    )
    op.create_table(
        "duties",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
    )


def downgrade() -> None:
    """Take it back. Refused while groups that are not terminated are on other servers."""
    elsewhere = op.get_bind().execute(
        sa.text(
            "SELECT count(*) FROM machine_groups WHERE redis_server <> :main "
            "AND status <> 'terminated'"
        ),
        {"main": _MAIN},
    )
    if elsewhere.scalar():
        raise ValueError(
            "migrate: machine groups are on Redis servers that the release before does not know: "
            "terminate them first."
        )
    op.create_index("ix_tasks_group_status", "tasks", ["group_id", "status"])
    op.drop_index("ix_tasks_group_end", "tasks")
    op.drop_index("ix_tasks_group_status_queued", "tasks")
    op.drop_index("ix_tasks_group_status_seq", "tasks")
    op.drop_table("duties")
    op.drop_column("machine_groups", "redis_server")
