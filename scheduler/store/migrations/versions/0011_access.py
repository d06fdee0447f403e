"""sharing of machine groups, the default group, providers of a user

Groups that ordinary users had shared with everyone are shared no longer: only an operator may do
that. The group that `bootstrap` has made, an operator's group named `local`, becomes the default.

Going back loses with whom groups are shared one by one, which group is the default, and which
providers users are narrowed to: they may use all of the release before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_OPERATORS = "(SELECT id FROM users WHERE is_operator)"


def upgrade() -> None:
    """Apply it."""
    op.add_column("users", sa.Column("providers", sa.JSON(), nullable=True))
    op.add_column(
        "machine_groups",
        sa.Column("is_default", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "group_shares",
        sa.Column("group_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("granted_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("accepted_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["group_id"], ["machine_groups.id"], name=op.f("fk_group_shares_group_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_group_shares_user_id")),
        sa.PrimaryKeyConstraint("group_id", "user_id", name=op.f("pk_group_shares")),
    )
    op.create_index(op.f("ix_group_shares_user_id"), "group_shares", ["user_id"])
    op.execute(f"UPDATE machine_groups SET shared = {_false()} WHERE user_id NOT IN {_OPERATORS}")
    op.execute(
        f"UPDATE machine_groups SET is_default = {_true()} WHERE id = ("
        f"SELECT id FROM machine_groups WHERE name = 'local' AND user_id IN {_OPERATORS} "
        "AND status != 'terminated' ORDER BY created_at LIMIT 1)"
    )


def _true() -> str:
    return "1" if op.get_bind().dialect.name == "sqlite" else "true"


def _false() -> str:
    return "0" if op.get_bind().dialect.name == "sqlite" else "false"


def downgrade() -> None:
    """Take it back."""
    op.drop_table("group_shares")
    op.drop_column("machine_groups", "is_default")
    op.drop_column("users", "providers")
