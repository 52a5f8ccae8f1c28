"""The runner's refusals of a merge by mergekit, early: as `enclave_runner.merge.check`."""

import sys

from enclave_runner.merge.check import check
from enclave_runner.mergekit import merging, settings

if __name__ == "__main__":
    sys.exit(check(settings.read, merging.prepare))
