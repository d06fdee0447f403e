"""Transfers of the client: input archives, downloads, members of archives, signed URLs."""
