"""ASGI middleware: metrics, request log, encoded paths."""
