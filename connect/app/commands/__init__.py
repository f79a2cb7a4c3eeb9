"""The commands of `connect`, as functions: a configuration in, files and a summary out."""
