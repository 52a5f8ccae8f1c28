"""The tasks of this repository. The configuration is in pyproject.toml, tasks and commands are in
rules/.
"""

from rules import dodo
from rules.dodo import *  # noqa: F403  # what every repository has; here the example besides
from rules.tasks import task_example

__all__ = ["task_example"]
__all__ += dodo.__all__
