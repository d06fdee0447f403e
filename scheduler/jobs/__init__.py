"""Celery: the scheduler's own background jobs. Nothing else imports Celery."""
