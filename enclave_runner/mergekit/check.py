"""Check a merge by mergekit before the host starts a machine, as `enclave_runner.merge.check` does
for other merges.
"""

import sys

from enclave_runner.merge.check import check
from enclave_runner.mergekit import merging, settings

if __name__ == "__main__":
    sys.exit(check(settings.read, merging.prepare))
