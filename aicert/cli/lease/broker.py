"""`aicert lease grant`, `broker`, `revoke`, `resume`, `status`: a custodian's broker and ledger.

The room `aicert.broker` is imported by name, only when one of these commands runs.
"""

import argparse
import gc
import importlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aicert.cli.lease import keys
from aicert.cli.terminal import add_format, add_part, complain
from aicert.errors import ConfigError, ToolError
from aicert.text import counted, safe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aicert.cli.terminal import Subparsers, Write
    from aicert.lease.custody import Secrets

_GRANT = """\
Record in the ledger what one machine of a borrower may get, and print a token for it. The broker
grants nothing else.

  aicert lease grant leases/bot --budget 5M --until 30d --borrower acme --ledger leases/ledger.db

The token enrols one machine, once. It is printed here and stored nowhere.
"""
_BROKER = """\
Answer borrowers' couriers: enrol machines that the policy accepts, take receipts, and answer
them with licences, until the grant ends or is revoked.

  aicert lease broker --ledger leases/ledger.db --policy policy.toml \\
      --listen 0.0.0.0:8444 --tls-certificate tls.pem --tls-key tls.key

A machine serves for at most three heartbeats after the last receipt that the broker answered.
"""
_REVOKE = """\
End a lease, or one borrower's share of it. The next receipt is answered with the order to stop; a
machine that sends none stops three heartbeats after its last receipt.

  aicert lease revoke leases/bot --borrower acme --ledger leases/ledger.db
"""
_RESUME = """\
Continue with a ledger that was restored from a backup. It does not know what was granted since, so
this ends every grant of the lease: grant again. Wait three heartbeats first, until machines that it
does not know about have run out.

  aicert lease resume leases/bot --ledger leases/ledger.db
"""
_STATUS = """\
Print what was granted and what was used, day by day. Machines' receipts were verified when they
came; --receipts writes them out, so that anybody can verify them and add them up.

  aicert lease status --ledger leases/ledger.db --html leases.html
  aicert lease status --ledger leases/ledger.db --receipts audit/
"""


def add_commands(parts: "Subparsers") -> None:
    """Add this module's commands to those of `aicert lease`."""
    _add_grant(parts)
    _add_broker(parts)
    _add_revoke(parts)
    _add_status(parts)


def _parser(parts: "Subparsers", name: str, help_: str, text: str) -> argparse.ArgumentParser:
    parser = add_part(parts, name, help_, text)
    parser.add_argument("--ledger", metavar="FILE", required=True, help="the broker's ledger")
    return parser


def _add_grant(parts: "Subparsers") -> None:
    parser = _parser(parts, "grant", "let a borrower enrol a machine", _GRANT)
    add = parser.add_argument
    add("lease", metavar="LEASE", help="the bundle's directory, with its keys beside it")
    add("--budget", metavar="TOKENS", required=True, help="5M, 500k or a plain number")
    add("--until", metavar="DURATION", required=True, help="how long it lasts: 30d, 12h or 90m")
    add("--borrower", metavar="NAME", required=True, help="whom it is for, in your own words")
    add(
        "--advance",
        metavar="TOKENS",
        help="how far a licence may run ahead of the last receipt, and what is charged for a "
        "machine that ends without an order; 1M or a tenth of the budget if not given",
    )
    keys.add_password(parser)
    add_format(parser)
    parser.set_defaults(run=_grant)


def _add_broker(parts: "Subparsers") -> None:
    parser = _parser(
        parts, "broker", "run the broker: grant what the ledger allows, over HTTPS", _BROKER
    )
    add = parser.add_argument
    # No default: whoever runs a broker must say which machines it accepts.
    add("--policy", required=True, help="google, local, qemu or a policy file")
    add("--root", metavar="PEM", help="the root of a simulated platform that you trust")
    add("--image-lock", metavar="L", help="the lock of a serving image that you accept")
    add("--listen", metavar="ADDR", default="127.0.0.1:8444", help="%(default)s if not given")
    add(
        "--tls-certificate",
        metavar="PEM",
        required=True,
        help="the broker's certificate, with the chain",
    )
    add("--tls-key", metavar="PEM", required=True, help="the certificate's private key")
    keys.add_password(parser)
    parser.set_defaults(run=_broker, format="text")


def _add_revoke(parts: "Subparsers") -> None:
    parser = _parser(parts, "revoke", "end a lease, or one borrower's share of it", _REVOKE)
    parser.add_argument("lease", metavar="LEASE", help="the bundle's directory")
    parser.add_argument("--borrower", metavar="NAME", help="only what this borrower was granted")
    add_format(parser)
    parser.set_defaults(run=_revoke)
    parser = _parser(parts, "resume", "continue with a restored ledger", _RESUME)
    parser.add_argument("lease", metavar="LEASE", help="the bundle's directory")
    add_format(parser)
    parser.set_defaults(run=_resume)


def _add_status(parts: "Subparsers") -> None:
    parser = _parser(parts, "status", "print what was granted and used", _STATUS)
    parser.add_argument("--html", metavar="FILE", help="also write it as a page")
    parser.add_argument("--receipts", metavar="DIR", help="write enrolments and receipts there")
    add_format(parser)
    parser.set_defaults(run=_status)


def _room(module: str) -> Any:
    """Import a module of aicert.broker by name, since no module may import that room."""
    try:
        return importlib.import_module(f"aicert.broker.{module}")
    except ModuleNotFoundError as error:
        raise ToolError(
            f"this needs the package {error.name}, which is not installed",
            hint="in a checkout of this project: pip install '.[broker]'",
        ) from None


def _keys(options: argparse.Namespace) -> "Callable[[Path], Secrets]":
    """Return a function that reads a lease's secrets, given the folder with its bundle."""
    secret = keys.password(options)
    # Not functools.partial, whose repr would show its arguments.
    return lambda folder: keys.read(folder, secret)


def _now() -> int:
    return int(time.time())


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lines(facts: "Sequence[tuple[str, str]]") -> str:
    return "".join(f"{word:<10}{text}\n" for word, text in facts)


def _grant(options: argparse.Namespace, say: "Write") -> int:
    from aicert.leasing import granting

    custodian, store = _room("custodian"), _room("store")
    wanted = custodian.GrantRequest(
        borrower=options.borrower,
        budget=granting.tokens(options.budget),
        duration=granting.seconds(options.until),
        advance=None if options.advance is None else granting.tokens(options.advance),
    )
    ledger = store.Store(Path(options.ledger), create=True)
    try:
        granted = custodian.grant(ledger, Path(options.lease), _keys(options), wanted, now=_now())
    finally:
        ledger.close()
    terms = granted.terms
    budget, advance = (count * terms.tick_tokens for count in (granted.ticks, granted.advance))
    if options.format == "json":
        document = {
            "lease": terms.lease,
            "borrower": options.borrower,
            "budget": budget,
            "advance": advance,
            "until": granted.until,
            "token": granted.token,
        }
        say(json.dumps(document, indent=2) + "\n")
        return 0
    ahead = 3 * terms.heartbeat_seconds
    most = f"a licence for at most {advance:,} ahead of receipts"
    say(
        _lines(
            [
                ("lease", terms.lease),
                ("borrower", safe(options.borrower)),
                (
                    "budget",
                    f"{budget:,} tokens, {most}",
                ),
                ("until", f"{_time(granted.until)}; without receipts, {ahead} s after the last"),
                ("token", granted.token),
                ("Omits", "the token is stored nowhere: give it to the borrower; it enrols once"),
            ]
        )
    )
    return 0


def _broker(options: argparse.Namespace, say: "Write") -> int:
    from aicert.verifier import verify as api

    host, port = _address(options.listen)
    policy = api.choose_policy(options.policy, root=options.root, image=options.image_lock)
    server = _room("server")
    place = server.Place(
        host=host, port=port, certificate=Path(options.tls_certificate), key=Path(options.tls_key)
    )
    ledger = _room("store").Store(Path(options.ledger))
    app = _room("app").App(_room("broker").Broker(ledger, policy, _keys(options)), _log)

    def on_ready(bound: int, end: "Callable[[], None]") -> None:
        del end
        complain(f"listening on https://{host}:{bound}, policy {safe(policy.name)}\n")

    # Garbage collection is off while a command starts, but a broker runs for months.
    gc.enable()
    try:
        server.serve(app, place, on_ready)
    except KeyboardInterrupt:
        # Ctrl-C is the way to end a broker at a terminal; work in progress is finished first.
        complain("ended\n")
    finally:
        app.close()
        ledger.close()
    return 0


def _log(line: str) -> None:
    complain(f"{_time(_now())}  {line}\n")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"not an address to listen on: {text[:80]!a}", hint="127.0.0.1:8444")
    return host, int(port)


def _revoke(options: argparse.Namespace, say: "Write") -> int:
    ledger = _room("store").Store(Path(options.ledger))
    try:
        count = _room("custodian").revoke(
            ledger, Path(options.lease), now=_now(), borrower=options.borrower
        )
    finally:
        ledger.close()
    if options.format == "json":
        say(json.dumps({"revoked": count}) + "\n")
        return 0
    grants = counted(count, "grant")
    what = grants if options.borrower is not None else f"the lease, and with it {grants}"
    say(
        _lines(
            [
                ("revoked", what),
                (
                    "Omits",
                    "machines that send no receipt run out; `status` shows which have obeyed",
                ),
            ]
        )
    )
    return 0


def _resume(options: argparse.Namespace, say: "Write") -> int:
    # The ledger must exist: if a mistyped name created one, the real ledger would fall behind.
    ledger = _room("store").Store(Path(options.ledger))
    try:
        count = _room("custodian").resume(ledger, Path(options.lease), now=_now())
    finally:
        ledger.close()
    if options.format == "json":
        say(json.dumps({"ended": count}) + "\n")
    else:
        say(_lines([("ended", counted(count, "grant")), ("next", "aicert lease grant, again")]))
    return 0


def _status(options: argparse.Namespace, say: "Write") -> int:
    ledger = _room("store").Store(Path(options.ledger))
    try:
        uses = _room("status").uses(ledger, now=_now())
        if options.receipts is not None:
            _room("status").write_receipts(ledger, Path(options.receipts))
    finally:
        ledger.close()
    if options.html is not None:
        from aicert.files.atomic import write_atomically

        write_atomically(Path(options.html), _room("page").page(uses, _now()).encode())
    document = options.format == "json"
    say(_room("status").to_json(uses) if document else _room("status").text(uses, _now()))
    return 0
