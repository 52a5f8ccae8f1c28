"""`python -m aicert`: the same as the `aicert` command."""

import sys

from aicert.cli.main import main

sys.exit(main())
