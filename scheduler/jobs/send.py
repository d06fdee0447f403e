"""`jobs.app.send` by its name in release 0.1, whose processes import it; goes in 0.3."""

from scheduler.jobs.app import send

__all__ = ["send"]
