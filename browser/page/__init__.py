"""The page `verify.html`: its text, looks and scripts, and what of it is Python.

`bridge.py` and `hashing.py` run inside the browser's Python and may import the verifier and
`exports/page.py`; `rules/page/` puts all of it into one file.
"""
