"""What is measured along a path, and what it says."""
