"""Export certificates for other people's tools: bills of materials, provenance, pages, cards.

Nothing here decides PASSED: `aicert verify` imports none of it, and it may import the core only.
"""
