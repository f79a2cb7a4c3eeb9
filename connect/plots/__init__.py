"""Results of `connect` to pictures; nothing here computes, and nothing imports torch."""
