"""What other people's tools read: model signatures, bills of material, provenance, pages, cards.

Nothing here decides PASSED: `aicert verify` imports none of it, and it may import the core only.
"""
