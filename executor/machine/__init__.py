"""The resources of this machine: its slots, volumes, images and free disk space."""
