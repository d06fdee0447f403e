"""What an agent shows of itself: metrics, health and status."""
