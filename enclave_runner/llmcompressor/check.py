"""Check a quantisation before the host starts a machine, as `enclave_runner.merge.check` does for
merges.
"""

import sys

from enclave_runner.llmcompressor.quantising import QUANTISATION
from enclave_runner.merge.check import check

if __name__ == "__main__":
    sys.exit(check(QUANTISATION))
