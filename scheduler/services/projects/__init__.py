"""Projects and the tables made of them."""
