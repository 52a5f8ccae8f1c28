"""Check a conversion before the host starts a machine, as `enclave_runner.merge.check` does for
merges.
"""

import sys

from enclave_runner.gguf.converting import CONVERSION
from enclave_runner.merge.check import check

if __name__ == "__main__":
    sys.exit(check(CONVERSION))
