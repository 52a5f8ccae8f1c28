"""Run Axolotl's own validation on an effective config.

This runs with the training environment's Python on the host, when a run is locked. It is only a
convenience, because the trainer validates again. It reads the config from stdin, and exits with 0,
or with 3 and Axolotl's messages on stdout. Checks of this computer's processor or GPU are left out,
because the run's may be different.
"""

from __future__ import annotations

import json
import sys

from axolotl.utils.config import prepare_plugins, validate_config
from axolotl.utils.dict import DictDefault
from pydantic import ValidationError  # type: ignore[import-not-found]  # in that environment

# The runner's own plugin exists only in the machine, and adds no key.
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
        # Removed keys raise warnings, and missing packages raise ImportError.
        print(error)
        return 3
    except OSError:
        # A file that only the machine has.
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
