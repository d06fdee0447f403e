"""Object storage: sign, stat, list, delete."""
