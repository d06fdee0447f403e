"""metadata of projects

Going back loses the metadata of projects.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply it."""
    op.add_column(
        "projects",
        sa.Column("project_metadata", sa.JSON(), nullable=False, server_default="{}"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_column("projects", "project_metadata")
