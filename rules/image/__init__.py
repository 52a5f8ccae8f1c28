"""The machine's image: packages by digest, layers, and the registers that it will have."""
