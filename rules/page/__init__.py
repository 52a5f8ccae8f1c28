"""Builds `verify.html`: its parts, checked against their lock, put into one file."""
