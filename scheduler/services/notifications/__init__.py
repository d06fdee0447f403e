"""What users register for, and its delivery."""
