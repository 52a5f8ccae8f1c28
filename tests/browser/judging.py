"""Judge cases with whichever `cryptography` is imported: `python -m tests.browser.judging …`.

A case is JSON, so that another interpreter or a browser can read it. An answer is all that the
verifier prints: each check with its detail, or the error message. This module imports nothing of
pytest, nor of `cryptography` itself.
"""

import base64
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Case = Mapping[str, Any]
Answer = list[Any]
# A time within the validity of most certificates of the tests.
AT = datetime(2026, 11, 1, tzinfo=UTC)


def judge(case: Case) -> Answer:
    """Return the answer to one case: a whole scenario, or a single X.509 certificate or list."""
    with warnings.catch_warnings():
        # The original warns of each use of a name that is too long.
        warnings.simplefilter("ignore")
        if "paths" in case:
            return _paths(case["paths"])
        if "certificate" in case:
            return _scenario(case)
        if "list" in case:
            return _list(*(base64.b64decode(case[name]) for name in ("list", "issuer", "der")))
        return _x509(base64.b64decode(case["der"]))


def _paths(paths: list[str]) -> Answer:
    from aicert.errors import AicertError
    from aicert.formats.paths import check_paths

    try:
        check_paths(paths)
    except AicertError as error:
        return [type(error).__name__, error.message]
    except UnicodeEncodeError:
        # A surrogate, which cannot come from a file's name.
        return ["UnicodeEncodeError"]
    return ["fine"]


def _scenario(case: Case) -> Answer:
    from aicert.appraisal.appraise import appraise
    from aicert.errors import AicertError
    from aicert.formats import certificate
    from aicert.formats.digest import Digest, FileFact
    from aicert.trust.policy_file import load_policy
    from aicert.verifier.verify import choose_policy

    with tempfile.TemporaryDirectory() as folder:
        for name, text in case["policy"].items():
            Path(folder, name).write_text(text)
        policy = load_policy(str(Path(folder, "policy.toml")))
    model, ancestors = case["model"], case["ancestors"]
    try:
        result = appraise(
            certificate.parse(base64.b64decode(case["certificate"])),
            None if model is None else {path: FileFact(*fact) for path, fact in model.items()},
            choose_policy(policy),
            at=datetime.fromisoformat(case["at"]),
            lockfile=None if case["lockfile"] is None else Digest.parse(case["lockfile"]),
            nonce=None if case["nonce"] is None else bytes.fromhex(case["nonce"]),
            ancestors=None
            if ancestors is None
            else [certificate.parse(base64.b64decode(one)) for one in ancestors],
            audits=None
            if case["audits"] is None
            else [
                (certificate.parse(base64.b64decode(one)), base64.b64decode(data))
                for one, data in case["audits"]
            ],
        )
    except AicertError as error:
        return ["malformed", None, type(error).__name__, error.message]
    reasons = result.failed or result.undecided
    checks = [[check.id, check.verdict, check.detail, check.hint] for check in result.checks]
    return [result.verdict, reasons[0].id if reasons else None, result.tier, checks]


def _x509(data: bytes) -> Answer:
    from aicert.crypto import x509
    from aicert.errors import AicertError

    try:
        certificate = x509.load(data, "it")
        x509.check_valid_at(certificate, AT)
        private = [
            [extension.oid.dotted_string, extension.critical]
            for extension in certificate.extensions
        ]
    except AicertError as error:
        return [type(error).__name__, error.message]
    purposes = x509.extended_key_usage(certificate)
    usage, constraints = x509.key_usage(certificate), x509.basic_constraints(certificate)
    key = certificate.public_key()
    names = [
        extension.value.public_bytes().hex()
        for extension in certificate.extensions
        if extension.oid.dotted_string == "2.5.29.17"
    ]
    return [
        "read",
        x509.common_name(certificate),
        x509.issuer_common_name(certificate),
        certificate.issuer.public_bytes().hex(),
        certificate.subject.public_bytes().hex(),
        certificate.subject.rfc4514_string(),
        certificate.tbs_certificate_bytes.hex(),
        certificate.signature.hex(),
        str(certificate.not_valid_before_utc),
        str(certificate.not_valid_after_utc),
        certificate.signature_algorithm_oid.dotted_string,
        private,
        None if purposes is None else sorted(purposes),
        None if usage is None else [usage.key_cert_sign, usage.digital_signature],
        None if constraints is None else constraints.path_length,
        getattr(getattr(key, "curve", None), "name", None),
        [_numbers(key), _issued(certificate, certificate)],
        names,
    ]


def _list(listed: bytes, issuer: bytes, der: bytes) -> Answer:
    """Return whether the issuer's revocation list contains a certificate."""
    from aicert.appraisal.evidence import revocation
    from aicert.crypto import x509
    from aicert.errors import AicertError

    try:
        revoked = revocation.load_list(listed, "it")
        facts = [str(revoked.last_update_utc), str(revoked.next_update_utc)]
        facts += [revoked.issuer.public_bytes().hex(), revoked.tbs_certlist_bytes.hex()]
        facts += [extension.oid.dotted_string for extension in revoked.extensions]
    except AicertError as error:
        return [type(error).__name__, error.message]
    try:
        revocation.check_not_revoked(x509.load(der, "it"), x509.load(issuer, "it"), revoked)
    except AicertError as error:
        return ["read", error.message, facts]
    return ["read", None, facts]


def _numbers(key: Any) -> list[int]:
    numbers = key.public_numbers()
    return [numbers.n, numbers.e] if hasattr(numbers, "n") else [numbers.x, numbers.y]


def _issued(child: Any, issuer: Any) -> str:
    from aicert.crypto import x509
    from aicert.errors import EvidenceError

    try:
        x509.check_key_identifier(child, issuer)
        x509.check_signature(child, issuer)
    except EvidenceError as error:
        return error.message
    return "issued by itself"


def judge_all(lines: str) -> str:
    """Return the answers to cases, both as JSON, one per line."""
    return "".join(json.dumps(judge(json.loads(line))) + "\n" for line in lines.splitlines())


def main(arguments: Sequence[str]) -> int:
    """Read cases from one file and write answers to another, with the stand-in if requested."""
    if arguments[0] == "--stand-in":
        from browser.crypto.install import install

        install()
        arguments = arguments[1:]
    cases, answers = map(Path, arguments)
    answers.write_text(judge_all(cases.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
