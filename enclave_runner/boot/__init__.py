"""The second half of PID 1: devices, the runner, the stream of what came out.

Imports the runner as a whole; only `image/machine/init.c` starts it.
"""
