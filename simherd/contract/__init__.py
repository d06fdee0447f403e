"""The words that every part of Simherd shares. Standard library only."""
