"""In-memory stand-ins for what an agent works with.

Each passes the behaviour suite of what it stands for: tests/contracts/executor.
"""
