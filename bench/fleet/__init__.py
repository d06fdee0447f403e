"""A large fleet whose agents are simulated: everything else is real."""
