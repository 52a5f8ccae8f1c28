"""Machines that run a training and return a certificate: a local process, qemu, Azure."""
