"""Write and read OpenSSF model signatures, and check which key signed."""
