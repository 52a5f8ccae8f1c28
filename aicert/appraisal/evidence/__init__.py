"""One file for each kind of platform evidence: how its bytes are read and judged."""
