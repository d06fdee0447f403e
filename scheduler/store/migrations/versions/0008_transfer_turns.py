"""when a user's transfers last had a turn

Going back loses whose turn it is, and nothing else.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply it."""
    op.add_column(
        "users", sa.Column("transfer_turn_at", sa.Double(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_column("users", "transfer_turn_at")
