"""Files that are whole or absent, and what they hold."""
