"""Running a simulation's commands: in containers of a Docker engine, or as plain processes."""
