"""MPI groups: one attempt on several machines."""
