"""Results to pictures; nothing here computes, and nothing imports torch."""
