"""Contains what is not trusted: namespaces, limits, system calls, processes.

Imports no other room of the runner.
"""
