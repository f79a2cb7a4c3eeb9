"""A height over weight space, and the network that gives it."""
