"""The executor: the agent on a machine. It pulls, stages, runs, guards, uploads and reports."""
