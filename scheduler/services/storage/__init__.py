"""Stored bytes: browse, account, transfer, export."""
