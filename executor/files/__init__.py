"""Files below a folder that a container wrote, opened without following a link."""
