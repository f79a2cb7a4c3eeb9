"""Progress, interrupts and seeds."""
