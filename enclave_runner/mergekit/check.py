"""Check a merge by mergekit before the host starts a machine, as `enclave_runner.merge.check` does
for other merges.
"""

import sys

from enclave_runner.merge.check import check
from enclave_runner.mergekit.merging import MERGE

if __name__ == "__main__":
    sys.exit(check(MERGE))
