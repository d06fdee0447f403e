"""What every process needs to run: logs, health pages, redaction, tracing, back-off."""
