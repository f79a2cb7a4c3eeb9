"""The graph of minima, and what follows from it."""
