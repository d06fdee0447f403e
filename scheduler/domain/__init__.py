"""Decisions: facts and the time in, a value out; no SQL, no Redis, no clock."""
