"""Ask a source on a network what it has, and fetch it: `hf:`, `git+https:`, `https:`.

Not part of the trust core: no verdict rests on it, and the core imports none of it. What it says
goes into a lockfile, where people review it, and is compared with bytes before it is used. It
needs the extra `sources` (huggingface_hub and httpx2) and, for git, the program `git`;
only `forms` and `choice` do without.
"""
