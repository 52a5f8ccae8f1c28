"""Everything that `./doit` does, in rooms; each may import those before it.

This is a regular package, not a namespace: another `rules/` folder on the path adds nothing to it.
"""
