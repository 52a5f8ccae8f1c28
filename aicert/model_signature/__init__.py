"""OpenSSF model signatures: written, read, and the key that signed."""
