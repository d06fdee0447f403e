"""The stages of an attempt, one a file."""
