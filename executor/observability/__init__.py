"""Metrics, health and status of an agent."""
