"""Machine groups: register, terminate, scale, share."""
