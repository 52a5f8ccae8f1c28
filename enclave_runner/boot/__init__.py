"""The second half of PID 1: make device nodes, start the runner, and stream out the results.

This room imports the whole runner; only `image/machine/init.c` starts it.
"""
