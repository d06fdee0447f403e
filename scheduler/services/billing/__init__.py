"""Costs, prices and quotas."""
