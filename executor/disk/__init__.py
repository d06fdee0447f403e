"""The disk space of attempts: a limit that holds, and room on the machine."""
