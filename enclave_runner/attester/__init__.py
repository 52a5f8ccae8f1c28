"""The TPM: registers, keys, the quote, and the certificate that is made of them."""
