"""Traces: one for each task, read from SQL. Only `collector` sees OpenTelemetry."""
