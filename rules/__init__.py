"""Everything that `./doit` does, by rooms; each may import those that stand before it.

A package with a file, not a namespace: a folder `rules/` elsewhere on the path adds nothing to it.
"""
