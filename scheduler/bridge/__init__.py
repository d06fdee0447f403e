"""Live files for the published client: a WebRTC data channel over the services."""
