"""The adapter for `aicert` itself, which takes a folder where the corpus has a listing.

`aicert-conformance "python3 tests/vectors/adapters/first.py"`
"""

import sys
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from aicert.appraisal.appraise import appraise
from aicert.errors import AicertError
from aicert.formats import certificate
from aicert.formats.digest import Digest, FileFact
from aicert.verifier.verify import choose_policy
from tests.vectors.adapters.common import question


def main() -> int:
    asked = question()
    model, lineage = asked.model, asked.lineage
    try:
        result = appraise(
            certificate.parse(asked.certificate),
            None if model is None else {path: FileFact(*fact) for path, fact in model.items()},
            choose_policy(asked.policy),
            at=datetime.fromisoformat(asked.at),
            lockfile=None if asked.lockfile is None else Digest.parse(asked.lockfile),
            nonce=asked.nonce,
            ancestors=None if lineage is None else list(map(certificate.parse, lineage)),
            audits=(
                None
                if asked.audits is None
                else [(certificate.parse(one), results) for one, results in asked.audits]
            ),
        )
    except AicertError as error:
        print("-")
        return error.exit_code
    reasons = result.failed or result.undecided
    print(reasons[0].id if reasons else "-")
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
