"""One attempt: its spec, its reports, its end, its outputs and checkpoints."""
