"""The HTTP API. Parse, check permission, call one service."""
