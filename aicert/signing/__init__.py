"""Sign and verify model directories: with keys, certificates, tokens, or Sigstore.

Some of these need an extra. Nothing that decides a verdict imports this room.
"""
