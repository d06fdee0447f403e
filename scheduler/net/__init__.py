"""Outbound connections: the guard against requests into our own network, and mail."""
