"""Builds `verify.html`: fetches its parts, checks them against their lock, and makes one file."""
