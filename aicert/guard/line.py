"""The line of `aicert-guard.pth`: only one line, because `site` requires that.

It does nothing unless the variable is set, and ends the process if aicert cannot be imported.
"""

from aicert.guard.hooks import VARIABLE

LINE = "import os, sys; exec({!r}) if os.environ.get({!r}) else None\n".format(
    "try:\n import aicert.guard.startup\nexcept BaseException as error:\n"
    " sys.stderr.write(f'error: the guard did not start: {error!r}\\n')\n"
    " sys.stderr.flush()\n os._exit(2)",
    VARIABLE,
)
