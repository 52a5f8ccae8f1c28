"""Signs and verifies model directories: keys, certificates, tokens, Sigstore.

Needs extras for some of them; nothing that decides a verdict imports this room.
"""
