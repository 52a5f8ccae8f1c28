"""`aicert.toml`, its lockfiles and their inputs."""
