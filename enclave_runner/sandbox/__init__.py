"""Contains untrusted programs: namespaces, limits, system calls, processes.

Imports no other room of the runner.
"""
