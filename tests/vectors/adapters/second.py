"""The adapter for a verifier written from the specification alone, as an example.

`aicert-conformance "python3 tests/vectors/adapters/second.py"`
"""

import sys
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from tests.second import chain as second_chain
from tests.second import verifier as second_verifier
from tests.vectors.adapters.common import question

CODES = {"passed": 0, "failed": 1, "none": 2, "malformed": 2}


def main() -> int:
    asked = question()
    policy, roots = second_chain.read_policy(Path(asked.policy))
    verdict, check = second_verifier.judge(
        second_verifier.Question(
            certificate=asked.certificate,
            policy=policy,
            roots=roots,
            at=datetime.fromisoformat(asked.at),
            model=None if asked.model is None else {p: sha for p, (_, sha) in asked.model.items()},
            lockfile=asked.lockfile,
            nonce=asked.nonce,
            ancestors=None if asked.lineage is None else tuple(asked.lineage),
            audits=None if asked.audits is None else tuple(asked.audits),
        )
    )
    print(check or "-")
    return CODES[verdict]


if __name__ == "__main__":
    sys.exit(main())
