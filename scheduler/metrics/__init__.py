"""What the scheduler counts and measures for Prometheus: the table, and how it is kept."""
