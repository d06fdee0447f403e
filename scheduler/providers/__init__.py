"""Machine providers: launch, terminate, describe."""
