"""Notices that the provider is about to reclaim this machine."""
