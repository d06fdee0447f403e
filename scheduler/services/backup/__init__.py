"""Backup, restore and the fence after a restore."""
