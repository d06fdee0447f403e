"""One attempt on this machine: its stages, its guards and how it ends."""
