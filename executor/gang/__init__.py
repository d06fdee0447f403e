"""Machines that work on one attempt together: one leads, the others are members."""
