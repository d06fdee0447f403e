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
    # The queue is compared with SQL page by page, in this order, and by what was queued last.
    op.create_index("ix_tasks_group_status_seq", "tasks", ["group_id", "status", "seq"])
    op.create_index("ix_tasks_group_status_queued", "tasks", ["group_id", "status", "queued_at"])
    op.drop_index("ix_tasks_group_status", "tasks")


def downgrade() -> None:
    """Take it back. Groups on other servers than the first are then looked for on that one."""
    op.create_index("ix_tasks_group_status", "tasks", ["group_id", "status"])
    op.drop_index("ix_tasks_group_status_queued", "tasks")
    op.drop_index("ix_tasks_group_status_seq", "tasks")
    op.drop_table("duties")
    op.drop_column("machine_groups", "redis_server")
