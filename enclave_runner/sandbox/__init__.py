"""Contains what is not trusted: namespaces, limits, system calls, processes."""
