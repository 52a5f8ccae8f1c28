"""Contain untrusted programs with namespaces, limits and a filter for system calls.

This room imports no other room of the runner.
"""
