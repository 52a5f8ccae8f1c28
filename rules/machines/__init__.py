"""What runs a training and brings back a certificate: a local process, qemu, Azure."""
