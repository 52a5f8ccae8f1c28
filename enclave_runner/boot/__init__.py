"""The second half of PID 1: devices, the runner, the stream of results.

Imports the whole runner; only `image/machine/init.c` starts it.
"""
