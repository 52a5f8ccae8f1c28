"""A measured machine under qemu, with a software TPM."""
