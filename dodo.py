"""What `doit` can do: configuration is in pyproject.toml, tasks and commands are in rules/."""
