"""This machine: its slots, volumes, images and free disk space."""
