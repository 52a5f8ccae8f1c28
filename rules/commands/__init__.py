"""One file for each `./doit` command: its arguments, help and exit codes."""
