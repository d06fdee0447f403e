"""Users, their keys and what operators did."""
