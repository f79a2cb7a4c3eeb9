"""Networks as flat vectors, and the lines and planes through them."""
