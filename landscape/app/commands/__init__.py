"""The commands of `landscape`, as functions: a configuration in, files and a summary out."""
