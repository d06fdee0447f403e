"""What runs by itself: the sweep, the reconciler, deadlines, consistency checks."""
