"""Build the machine's image: packages by digest, layers, and the PCRs that it will have."""
