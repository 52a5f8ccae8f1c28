"""Ask Axolotl's own validation about an effective config.

Runs with the training environment's Python, on the host, when a run is locked: for comfort only,
since the trainer asks it again. Reads the config from stdin; exits 0, or 3 with what Axolotl says
on stdout. What is asked of this computer's processor or GPU is left out: the run's may be another.
"""

from __future__ import annotations

import json
import sys

from axolotl.utils.config import prepare_plugins, validate_config
from axolotl.utils.dict import DictDefault
from pydantic import ValidationError  # type: ignore[import-not-found]  # in that environment

# The runner's own plugin is in the machine alone, and adds no key.
RUNNERS = "aicert_axolotl."
MAX_ERRORS = 5


def main() -> int:
    """Validate one config."""
    settings = json.load(sys.stdin)
    named = settings.get("plugins") or []
    settings["plugins"] = [each for each in named if not each.startswith(RUNNERS)]
    config = DictDefault(settings)
    try:
        prepare_plugins(config)
        validate_config(config)
    except ValidationError as error:
        for each in error.errors()[:MAX_ERRORS]:
            place = ".".join(map(str, each["loc"]))
            words = str(each["msg"]).removeprefix("Value error, ")
            print(f"{place}: {words}" if place else words)
        return 3
    except (ValueError, TypeError, NotImplementedError, ImportError, Warning) as error:
        # Keys of the past raise warnings, and packages that are missing ImportError.
        print(error)
        return 3
    except OSError:
        # A file that only the machine has.
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
