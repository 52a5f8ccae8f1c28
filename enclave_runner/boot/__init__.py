"""The second half of PID 1: devices, the runner, the stream of what came out."""
