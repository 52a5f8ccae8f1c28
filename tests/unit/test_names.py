"""Variables of the tests are named for what they hold, as those of the code are (test_layering)."""

import ast
from pathlib import Path

from tests.unit.test_layering import modules

ROOT = Path(__file__).resolve().parents[2]
# Not renamed yet: a file leaves this list when its names say what they hold.
VAGUE_STILL = {
    "tests/adversarial/honest.py",
    "tests/e2e/lease_machine.py",
    "tests/fuzz/worst.py",
    "tests/second_chain.py",
    "tests/second_forms.py",
    "tests/second_verifier.py",
    "tests/unit/aicert/appraisal/test_appraise.py",
    "tests/unit/aicert/cli/test_main.py",
    "tests/unit/aicert/crypto/test_x509.py",
    "tests/unit/aicert/formats/test_certificate.py",
    "tests/unit/aicert/trust/test_policy_file.py",
    "tests/unit/test_documents.py",
    "tests/unit/test_layering.py",
    "tests/unit/test_spec_limits.py",
    "tests/vectors/generate.py",
    "tests/vectors/leases.py",
    "tests/vectors/test_vectors.py",
}


def test_variables_of_tests_are_named_for_what_they_hold() -> None:
    """Not for what was done: `said`, `made`, `told`, `found` say nothing of a value."""
    vague = {"said", "made", "told", "found"}
    named: dict[str, set[str]] = {}
    for name in modules("tests"):
        for node in ast.walk(ast.parse((ROOT / name).read_bytes())):
            words = vague & {getattr(node, key, None) for key in ("id", "arg", "name")}
            if words:
                named.setdefault(name, set()).update(words)
    assert {name: words for name, words in named.items() if name not in VAGUE_STILL} == {}
    assert VAGUE_STILL - named.keys() == set(), "these are clean: take them off the list"
