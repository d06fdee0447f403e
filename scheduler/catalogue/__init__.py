"""The operator's tables: machine types and simulator images."""
