"""What a relying party calls: paths in, an AttestationResult out."""
