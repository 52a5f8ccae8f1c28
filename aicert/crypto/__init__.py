"""X.509 and signatures, on `cryptography`: what decides for every certificate."""
