"""The inputs of the shipped run, made byte for byte the same everywhere."""
