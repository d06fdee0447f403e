"""Chaos drills: break a fleet on purpose, to see that all holds."""
