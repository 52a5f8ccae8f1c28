"""X.509 certificates and signatures, on `cryptography`: part of every certificate's verdict."""
