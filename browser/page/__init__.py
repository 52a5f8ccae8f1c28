"""The page `verify.html`: its text, style and scripts, and its Python part.

`bridge.py` and `hashing.py` run in the browser's Python and may import the verifier and
`exports/page.py`; `rules/page/` puts everything into one file.
"""
