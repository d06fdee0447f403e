"""since when a group's keys in Redis are set aside, and why

Going back forgets which groups are: a release before this one stops recording for all of them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply it."""
    op.add_column("machine_groups", sa.Column("quarantined_at", sa.Double()))
    op.add_column("machine_groups", sa.Column("quarantine_reason", sa.String()))


def downgrade() -> None:
    """Take it back."""
    op.drop_column("machine_groups", "quarantine_reason")
    op.drop_column("machine_groups", "quarantined_at")
