"""`aicert log bundle` and `trusted-root`: a certificate's signature for Sigstore's tools.

These commands check only that the log has the entry and that the time authority answered this
request: their output is for cosign, which cannot read a quote (docs/spec/sigstore.md).
"""

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.cli.log.parts import EXITS, add_log_key, show, with_folder
from aicert.cli.terminal import add_format, add_part
from aicert.errors import ConfigError

if TYPE_CHECKING:
    from aicert.cli.terminal import Subparsers, Write

_BUNDLE = """\
Write a Sigstore bundle of a certificate: its signature, the proof that the log has that signature's
entry, and a time stamp of the signature. cosign verifies it against a trusted root.

  aicert log append log/ certificate.json --sigstore
  aicert log bundle log/ certificate.json --tsa https://tsa.example/ -o certificate.sigstore.json

This shows cosign that the run key signed the outputs. Only the certificate shows that the key
belongs to a measured machine: aicert verify.
"""
_ROOT = """\
Write a policy's logs and time authorities as a trusted root for cosign.

  aicert log trusted-root --policy policy.toml -o trusted_root.json
"""


def add_commands(parts: "Subparsers") -> None:
    """Add these commands to those of `aicert log`."""
    parser = with_folder(parts, "bundle", "write a Sigstore bundle of a certificate", _BUNDLE)
    add = parser.add_argument
    add("certificate", metavar="CERT", help="the certificate file; - is standard input")
    add("--tsa", metavar="URL", required=True, help="the time authority to ask")
    add("-o", "--output", metavar="FILE", required=True, help="the bundle")
    add_log_key(parser)
    parser.set_defaults(run=_bundle)
    line = "write a policy's logs and time authorities for cosign"
    parser = add_part(parts, "trusted-root", line, _ROOT, EXITS)
    add = parser.add_argument
    add("--policy", metavar="FILE", required=True, help="a policy file with both")
    add("-o", "--output", metavar="FILE", required=True, help="the trusted root")
    add_format(parser)
    parser.set_defaults(run=_trusted_root)


def _bundle(options: argparse.Namespace, write: "Write") -> int:
    from aicert.cli.timestamp import asked
    from aicert.crypto.x509 import stamp
    from aicert.files.atomic import check_place, write_atomically
    from aicert.log import check, sigstore, tiles
    from aicert.tlog import proofs
    from aicert.verifier.verify import read_certificate

    place, folder = Path(options.output), Path(options.folder)
    check_place(place)
    certificate = read_certificate(options.certificate)
    key = tiles.read_key(folder, options.log_key)
    # Check this before the time authority is asked.
    sigstore.check_origin(key)
    hint = "aicert log append FOLDER CERT --sigstore"
    index, proof = check.prove(folder, key, sigstore.leaf_of(certificate), hint=hint)
    digest = hashlib.sha256(certificate.envelope.signature).digest()
    der, token = asked(options.tsa, digest)
    write_atomically(place, sigstore.bundle(certificate, key, proofs.parse(proof), der))
    time = stamp(token.time)
    return show(
        options,
        write,
        {"index": index, "origin": key.name, "time": time, "verified": False},
        [
            ("proved", f"entry {index} of {key.name}"),
            ("time", f"{time}, by {options.tsa}"),
            ("written", place),
            (
                "Omits",
                "that the key belongs to a machine, which the certificate shows (aicert verify)",
            ),
        ],
    )


def _trusted_root(options: argparse.Namespace, write: "Write") -> int:
    from aicert.files.atomic import check_place, write_atomically
    from aicert.log import sigstore
    from aicert.trust.policy_file import load_policy

    place = Path(options.output)
    check_place(place)
    # This does not take the verifier's whole policy: cosign knows nothing of machines and their
    # roots.
    policy = load_policy(options.policy)
    if not policy.logs or not policy.time_authorities:
        raise ConfigError(
            f"policy {policy.name} names no log, or no time authority, but cosign needs both",
            hint="add [[log]] and [[time-authority]] to it",
        )
    keys = [log.key for log in policy.logs]
    authorities = [
        sigstore.Authority(name=one.name, chain=(*one.intermediates, one.root))
        for one in policy.time_authorities
    ]
    write_atomically(place, sigstore.trusted_root(keys, authorities))
    logs = [f"{log.name}, {log.key.name}" for log in policy.logs]
    times = [one.name for one in policy.time_authorities]
    return show(
        options,
        write,
        {"logs": [key.name for key in keys], "authorities": times},
        [
            *(("log", one) for one in logs),
            *(("time", one) for one in times),
            ("written", place),
            ("Omits", "the policy's witnesses, which cosign does not know"),
        ],
    )
