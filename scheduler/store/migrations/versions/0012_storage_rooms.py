"""room in users' storages that is promised, or taken since it was last listed

Going back loses it: uploads that are under way then are not counted before they are stored.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply it."""
    op.create_table(
        "storage_rooms",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("promised", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("stored_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_storage_rooms_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_storage_rooms")),
    )
    op.create_index(op.f("ix_storage_rooms_user_id"), "storage_rooms", ["user_id"])


def downgrade() -> None:
    """Take it back."""
    op.drop_index(op.f("ix_storage_rooms_user_id"), "storage_rooms")
    op.drop_table("storage_rooms")
