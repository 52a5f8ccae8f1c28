"""The inputs of the shipped run, which are the same bytes everywhere."""
