"""Traces: one for each task, told from SQL. Only `collector` sees OpenTelemetry."""
