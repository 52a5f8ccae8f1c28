"""Inputs: measured, then refused if they could run code or decide what is trained on."""
