"""`aicert.toml`, its lockfiles, and the inputs that they name."""
