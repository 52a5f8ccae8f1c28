"""Verification for a relying party: paths in, an AttestationResult out."""
