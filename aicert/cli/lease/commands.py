"""`aicert lease`: pack a certified model, issue a licence for a machine, add up receipts. The
commands for a broker's custodian are in `aicert.cli.lease.broker`.

Exit codes as everywhere: 0 passed, 1 the evidence says no, 2 no verdict, 3 bad command line.
"""

import argparse
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.cli.lease import broker, keys
from aicert.cli.terminal import add_format, add_part, complain, write
from aicert.cli.verify.commands import add_policy_options, appraised, show_result
from aicert.errors import ConfigError, ToolError
from aicert.text import counted, safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aicert.cli.terminal import Subparsers, Write
    from aicert.lease.terms import Terms
    from aicert.leasing.accounts import Account
    from aicert.leasing.client_receipts import Answered
    from aicert.leasing.enrolments import Enrolled
    from aicert.leasing.granting import Issued
    from aicert.leasing.packing import Packed

_LEASE = """\
Lease a certified model: a borrower runs it in a measured machine, whose TPM counts its use.

  aicert lease pack certificate.json model/ -o leases/bot
  aicert lease grant leases/bot --budget 5M --until 30d --borrower acme --ledger leases/ledger.db
  aicert lease broker --ledger leases/ledger.db --policy P --tls-certificate tls.pem --tls-key K
  aicert lease status --ledger leases/ledger.db
  aicert lease revoke leases/bot --ledger leases/ledger.db
  aicert lease receipts receipts.jsonl --lease leases/bot --enrolment enrolment.json

Offline, without a broker:

  aicert lease issue enrolment.json --lease leases/bot --budget 5M --until 30d -o issued/
"""
_PACK = """\
Check the certificate against the model, and if it passes encrypt the model's certified files.

  aicert lease pack certificate.json model/ -o leases/bot --policy confidential

DIR gets what a borrower needs: encrypted files, header, terms, certificate. DIR.keys gets what
opens them: it stays with you.
"""
_ISSUE = """\
Judge a machine's enrolment under your policy and, if it is accepted, write a licence for the
machine and the half of the key that its TPM keeps.

  aicert lease issue enrolment.json --lease leases/bot --budget 5M --until 30d -o issued/

The budget counts from the meter that the machine showed. Time is its TPM's clock, which runs only
while the machine does. A licence says nothing about other machines or images.
"""
_RECEIPTS = """\
Verify receipts of one lease, put them in order and add them up. Lost, copied or edited receipts,
and a TPM whose state was restored, are refused. --format csv has a line for each receipt.

  aicert lease receipts receipts.jsonl --lease leases/bot --enrolment enrolment.json --policy P
"""
# What can be promised for a lease whose whole key is in the TPM.
OFFLINE = (
    "offline: whoever can restore the TPM's state can use the budget again; the count and the end "
    "hold only if nobody can"
)
BROKER = "the broker's half of the key, without which the machine opens nothing"
MAX_RECEIPTS = 1 << 28


def add_command(commands: "Subparsers") -> None:
    """Add `lease` and its commands to the parser of `aicert`."""
    line = "lease a certified model: pack, grant, broker, receipts"
    lease = add_part(commands, "lease", line, _LEASE)
    parts = lease.add_subparsers(dest="part", required=True, metavar="COMMAND")
    _add_pack(parts)
    _add_issue(parts)
    _add_receipts(parts)
    broker.add_commands(parts)


def _add_pack(parts: "Subparsers") -> None:
    parser = add_part(parts, "pack", "encrypt a certified model for a lease", _PACK)
    add = parser.add_argument
    add("certificate", metavar="CERT", help="the certificate file")
    add("model", metavar="MODEL_DIR", help="the model's directory")
    add(
        "-o",
        "--output",
        metavar="DIR",
        required=True,
        help="the new bundle; its keys go to DIR.keys",
    )
    add(
        "--offline",
        action="store_true",
        help="the TPM alone opens it, without a broker's half of the key",
    )
    add("--key-at", metavar="URI", help="your own lease key: pkcs11:… (RFC 7512) or tpm:HANDLE")
    keys.add_password(parser)
    add(
        "--tick-tokens",
        metavar="N",
        type=int,
        default=1000,
        help="tokens for each tick of the meter",
    )
    add(
        "--max-output-tokens",
        metavar="N",
        type=int,
        default=4096,
        help="the most tokens that one answer may have",
    )
    add(
        "--heartbeat-seconds",
        metavar="N",
        type=int,
        default=60,
        help="seconds between two receipts",
    )
    add("--egress-bytes-per-token", metavar="N", type=int, default=16,
        help="the most bytes that an answer may have per paid token")  # fmt: skip
    add_policy_options(parser)
    add_format(parser)
    parser.set_defaults(run=_pack)


def _add_issue(parts: "Subparsers") -> None:
    parser = add_part(parts, "issue", "issue a licence for an enrolled machine", _ISSUE)
    add = parser.add_argument
    _add_machine(parser)
    add("--budget", metavar="TOKENS", required=True, help="5M, 500k or a plain number")
    add("--until", metavar="DURATION", required=True, help="30d, 12h or 90m of running time")
    add("--boots", metavar="N", type=int, default=1, help="how many more times it may start")
    add(
        "--offline",
        action="store_true",
        help="confirm that you know what an offline lease cannot promise",
    )
    add("-o", "--output", metavar="DIR", required=True, help="where licence and blob are written")
    keys.add_password(parser)
    add_format(parser)
    parser.set_defaults(run=_issue)


def _add_receipts(parts: "Subparsers") -> None:
    parser = add_part(parts, "receipts", "verify receipts and add them up", _RECEIPTS)
    parser.add_argument("files", metavar="FILE", nargs="+", help="receipts, one a line")
    _add_machine(parser, option=True)
    parser.add_argument("--answers", metavar="FILE", action="append", default=[],
        help="also check these receipts of answers (aicert connect --receipts)")  # fmt: skip
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text",
        help="what to write to stdout; csv has a line for each receipt")  # fmt: skip
    parser.set_defaults(run=_receipts)


def _add_machine(parser: argparse.ArgumentParser, *, option: bool = False) -> None:
    """Add the enrolment, the lease, and the options for judging a machine."""
    add = parser.add_argument
    if option:
        add(
            "--enrolment",
            metavar="FILE",
            required=True,
            help="the enrolment of the machine that served",
        )
    else:
        add("enrolment", metavar="ENROLMENT", help="the machine's enrolment file")
    add("--lease", metavar="DIR", required=True, help="the lease's bundle, with terms.toml")
    add("--policy", default="default", help="default, google, local, qemu or a policy file")
    add("--root", metavar="PEM", help="the root of a simulated platform that you trust")
    add("--image-lock", metavar="L", help="the lock of a serving image that you accept")
    add("--nonce", metavar="HEX", help="your challenge, which the machine had to answer")
    add("--at", metavar="TIME", help="judge the validity of X.509 certificates at this time")


# The kinds of run whose models the engine of serving machines does not load, and why.
_UNSERVED = {
    "convert": "GGUF file: its engine loads safetensors",
    "quantise": "quantised model: its engine lacks compressed-tensors",
}


def _pack(options: argparse.Namespace, say: "Write") -> int:
    from aicert.cli.progress import Progress
    from aicert.lease import terms
    from aicert.leasing import packing
    from aicert.verifier.verify import read_certificate, require_model

    certificate = read_certificate(options.certificate)
    result = appraised(options, certificate)
    if result.verdict != "passed":
        return show_result(result, options.format)
    require_model(result)
    if result.kind in _UNSERVED:
        raise ConfigError(
            f"no serving machine can load a {_UNSERVED[result.kind]}",
            hint="pack the model that it was made from, with the certificate of that one's run",
        )
    allowed = packing.Allowed(
        tick_tokens=options.tick_tokens,
        routes=terms.ROUTES,
        max_output_tokens=options.max_output_tokens,
        heartbeat_seconds=options.heartbeat_seconds,
        egress_bytes_per_token=options.egress_bytes_per_token,
        is_offline=options.offline,
    )
    folder = Path(options.output)
    secret = keys.password(options)
    key = None if options.key_at is None else keys.held_key(options.key_at, secret)
    with Progress(options.model, complain) as progress:
        packed = packing.pack(
            certificate, Path(options.model), folder, allowed, progress.on_bytes, key=key
        )
    if options.format == "json":
        say(_packed_json(packed, folder))
    else:
        verdict = f"{_tier(result.tier or '')}, policy {safe(result.policy)}"
        say(_lines([("PASSED", verdict)]) + _packed_text(packed, folder))
    return 0


def _packed_json(packed: "Packed", folder: Path) -> str:
    from aicert.leasing.packing import keys_path

    document = {
        "lease": packed.terms.lease,
        "terms": str(packed.terms.digest),
        "model": str(packed.terms.model),
        "files": len(packed.header.files),
        "bytes": sum(file.size for file in packed.header.files),
        "keys": str(keys_path(folder)),
    }
    return json.dumps(document, indent=2) + "\n"


def _packed_text(packed: "Packed", folder: Path) -> str:
    from aicert.lease.terms import TPM_ALONE
    from aicert.leasing.packing import keys_path

    files = packed.header.files
    size = sum(file.size for file in files)
    paid = -(-size // packed.terms.egress_bytes_per_token)
    facts = [
        ("lease", packed.terms.lease),
        ("terms", str(packed.terms.digest)),
        ("model", f"{packed.terms.model}, {counted(len(files), 'file')}, {size:,} bytes"),
        ("egress", f"answers to {paid:,} paid tokens carry as many bytes as the model has"),
        ("bundle", safe(str(folder))),
        ("keys", f"{safe(str(keys_path(folder)))}: whoever has this file has the model"),
    ]
    if packed.terms.key == TPM_ALONE:
        facts.append(("Omits", OFFLINE))
    return _lines(facts)


def _lines(facts: "Sequence[tuple[str, str]]") -> str:
    return "".join(f"{word:<10}{text}\n" for word, text in facts)


def _terms(folder: Path) -> "Terms":
    from aicert.files.bounded import read_bounded
    from aicert.lease import bundle, terms

    return terms.parse(read_bounded(folder / bundle.TERMS, terms.MAX_BYTES, "terms"))


def _machine(options: argparse.Namespace, terms: "Terms") -> "Enrolled":
    """Return the machine in the enrolment, if the policy accepts it."""
    from aicert.files.bounded import read_bounded
    from aicert.lease import enrolment
    from aicert.leasing import enrolments
    from aicert.verifier import verify as api

    policy = api.choose_policy(options.policy, root=options.root, image=options.image_lock)
    data = read_bounded(options.enrolment, enrolment.MAX_BYTES, "enrolment")
    return enrolments.appraise(
        enrolment.parse(data),
        terms,
        policy,
        at=api.time_of_appraisal(options.at),
        nonce=api.expected_nonce(options.nonce),
    )


def _issue(options: argparse.Namespace, say: "Write") -> int:
    from aicert.lease import blob, licence
    from aicert.leasing import granting

    budget, duration = granting.tokens(options.budget), granting.seconds(options.until)
    if not 0 <= options.boots <= granting.MAX_MORE_BOOTS:
        raise ConfigError(f"--boots is from 0 to {granting.MAX_MORE_BOOTS}", hint="--boots 1")
    bundle = Path(options.lease)
    terms = _terms(bundle)
    machine = _machine(options, terms)
    issued = granting.issue(
        keys.read(bundle, keys.password(options)),
        terms,
        machine,
        budget=budget,
        duration=duration,
        boots=options.boots,
        is_offline=options.offline,
    )
    folder = Path(options.output)
    _write_new(folder, {"licence": licence.emit(issued.licence), "blob": blob.emit(issued.blob)})
    say(
        _issued_json(issued, machine, terms)
        if options.format == "json"
        else _issued_text(issued, machine, terms, options)
    )
    return 0


def _issued_json(issued: "Issued", machine: "Enrolled", terms: "Terms") -> str:
    bounds = issued.licence.bounds
    document = {
        "lease": terms.lease,
        "tier": machine.tier,
        "image": str(issued.licence.image or "none"),
        "meter": machine.meter.value,
        "budget": bounds.budget,
        "epoch": bounds.epoch,
        "clock": bounds.clock,
        "resets": bounds.resets,
    }
    return json.dumps(document, indent=2) + "\n"


def _issued_text(
    issued: "Issued", machine: "Enrolled", terms: "Terms", options: argparse.Namespace
) -> str:
    image = "none" if machine.image is None else machine.image.name
    tokens, meter = issued.ticks * terms.tick_tokens, machine.meter.value
    more = counted(options.boots, "boot")
    folder = safe(options.output)
    facts = [
        ("machine", f"{_machine_text(machine)}, image {safe(image)}"),
        ("budget", f"{tokens:,} tokens: meter {meter} to {issued.licence.bounds.budget}"),
        ("until", f"{safe(options.until)} of running time, in this boot and {more} more"),
        ("wrote", f"{folder}/licence, {folder}/blob"),
    ]
    facts.append(("Omits", OFFLINE if options.offline else BROKER))
    return _lines(facts)


def _write_new(folder: Path, files: dict[str, bytes]) -> None:
    """Write files to a directory, which may exist; none of the files may."""
    for path in (folder / name for name in files):
        if os.path.lexists(path):
            hint = f"mkdir -p {shlex.quote(str(folder))}-new"
            raise ConfigError(f"{str(path)!a} already exists", hint=hint)
    try:
        folder.mkdir(exist_ok=True)
        for name, data in files.items():
            with (folder / name).open("xb") as stream:
                stream.write(data)
    except OSError as error:
        raise ToolError(
            f"cannot write {str(folder)!a}: {error.strerror}",
            hint="-o DIR, in a folder that exists and that you may write to",
        ) from None


def _tier(tier: str) -> str:
    from aicert.appraisal.result import below_vtpm

    return f"tier {tier}{' (the operator could have forged this)' if below_vtpm(tier) else ''}"


def _machine_text(machine: "Enrolled") -> str:
    return f"{_tier(machine.tier)}, root {safe(machine.root)}"


def _receipts(options: argparse.Namespace, say: "Write") -> int:
    from aicert.files.bounded import read_bounded
    from aicert.leasing import accounts, client_receipts

    terms = _terms(Path(options.lease))
    machine = _machine(options, terms)
    given = [
        receipt
        for path in options.files
        for receipt in accounts.parse_lines(read_bounded(path, MAX_RECEIPTS, "receipts"))
    ]
    account = accounts.account(terms, machine, given)
    held = [
        token
        for path in options.answers
        for token in client_receipts.parse_lines(
            read_bounded(path, MAX_RECEIPTS, "receipts of answers")
        )
    ]
    checked = client_receipts.answered(account, held) if options.answers else None
    if options.format == "csv":
        # The output is for programs, so its lines are not wrapped for a terminal.
        write(_account_csv(account))
    else:
        as_json = options.format == "json"
        document = _account_json(account, checked)
        say(document if as_json else _account_text(account, machine, checked))
    return 0


def _account_csv(account: "Account") -> str:
    """Return a line for each receipt, with what was served since the one before it.

    The columns therefore add up to the totals.
    """
    head = "receipt,boot,clock-ms,resets,meter,tokens-in,tokens-out,tokens-refused,requests,ticks"
    lines = [head]
    for entry in account.entries:
        usage = entry.usage
        values = (
            entry.seq, entry.boot, entry.clock, entry.resets, entry.meter, usage.tokens_in,
            usage.tokens_out, usage.tokens_refused, usage.requests, usage.ticks,
        )  # fmt: skip
        lines.append(",".join(map(str, values)))
    return "\n".join(lines) + "\n"


def _account_json(account: "Account", checked: "Answered | None") -> str:
    total, ledger, ending = account.total, account.ledger, account.ending
    document = {
        "lease": ledger.terms.lease,
        "receipts": account.count,
        "boots": account.boots,
        "tokens": {
            "in": total.tokens_in, "out": total.tokens_out, "refused": total.tokens_refused,
        },
        "requests": total.requests,
        "ticks": total.ticks,
        "meter": {"first": account.first.value, "last": ledger.meter},
        "head": ledger.head,
        "ended": None if ending is None else {"order": ending.order.kind, "epoch": ending.epoch},
        "answers": None if checked is None else {
            "receipts": checked.count, "tokensIn": checked.tokens_in,
            "tokensOut": checked.tokens_out,
        },
    }  # fmt: skip
    return json.dumps(document, indent=2) + "\n"


def _account_text(account: "Account", machine: "Enrolled", checked: "Answered | None") -> str:
    total, ledger, ending = account.total, account.ledger, account.ending
    tokens = f"{total.tokens_in:,} in, {total.tokens_out:,} out, {total.tokens_refused:,} refused"
    ticks = f"{counted(total.ticks, 'tick')} of {ledger.terms.tick_tokens} tokens"
    ended = "no kill receipt is here"
    if ending is not None:
        ended = f"by order {ending.order.kind}: the epoch is {ending.epoch} since"
    return _lines(
        [
            ("lease", ledger.terms.lease),
            ("machine", _machine_text(machine)),
            ("receipts", f"{account.count} in a row, of {counted(account.boots, 'boot')}"),
            ("tokens", f"{tokens}, of {counted(total.requests, 'request')}"),
            ("meter", f"{account.first.value} to {ledger.meter}, {ticks} receipted"),
            *_answers_text(checked),
            ("ended", ended),
            ("Omits", "what was served after the last receipt here"),
        ]
    )


def _answers_text(checked: "Answered | None") -> list[tuple[str, str]]:
    if checked is None:
        return []
    tokens = f"{checked.tokens_in:,} tokens in, {checked.tokens_out:,} out"
    held = f"{counted(checked.count, 'receipt')} that clients hold, each of a boot of these"
    return [("answers", f"{held}: {tokens}")]
