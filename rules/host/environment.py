"""The training environment, made with progress when it is missing."""

from pathlib import Path

from rules.host import progress, training_env


def training_environment(root: Path) -> Path:
    """The environment's directory; minutes and some 3 GB the first time, nothing afterwards."""
    environment = training_env.location(root)
    if training_env.is_complete(environment):
        training_env.require_usable(environment)
        return environment
    progress.say("making the training environment (Axolotl and torch, about 3 GB, minutes)")
    with progress.task("training environment", unit="steps", is_even=False) as bar:
        return training_env.ensure(
            root,
            on_line=lambda line: bar.update(note=line),
            on_progress=lambda done, total: bar.update(done=done, total=total),
        )
