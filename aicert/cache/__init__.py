"""Digests of files that did not change since they were last read. Decides nothing."""
