"""submissions that can be repeated, inputs that tasks share

Going back loses which inputs tasks share: tasks that wait with such inputs will find none. Repeated
submissions are no longer known again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS: tuple[sa.Column[Any], ...] = (
    sa.Column("shared_inputs", sa.JSON(), nullable=False, server_default="[]"),
    sa.Column("has_input", sa.Boolean(), nullable=False, server_default=sa.true()),
    sa.Column("client_key", sa.String(), nullable=True),
    sa.Column("client_digest", sa.String(), nullable=True),
)
_INDEX = "ix_tasks_user_client_key"


def upgrade() -> None:
    """Apply it."""
    for column in _COLUMNS:
        op.add_column("tasks", column._copy())
    op.create_index(_INDEX, "tasks", ["user_id", "client_key"], unique=True)


def downgrade() -> None:
    """Take it back."""
    op.drop_index(_INDEX, "tasks")
    for column in reversed(_COLUMNS):
        op.drop_column("tasks", column.name)
