"""What is studied: a model, its data and its loss."""
