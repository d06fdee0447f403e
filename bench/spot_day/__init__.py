"""A day of a spot fleet, in minutes: machines that are containers come, go, freeze."""
