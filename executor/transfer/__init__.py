"""Transfers between this machine and object storage."""
