"""What `doit` can do: configuration is in pyproject.toml, tasks and commands are in rules/."""

from rules.tasks import task_certify, task_example, task_export, task_lock, task_training_env

__all__ = ["task_certify", "task_example", "task_export", "task_lock", "task_training_env"]
