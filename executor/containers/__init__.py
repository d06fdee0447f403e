"""Where a simulation's commands run: a Docker engine, or plain processes."""
