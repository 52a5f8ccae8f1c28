"""`aicert connect`: a local OpenAI endpoint in front of a machine that serves a leased model.

Exit codes: 0 ended by Ctrl-C, 1 the evidence says no, 2 no verdict, 3 bad command line.
"""

import argparse
import json
import shlex
from typing import TYPE_CHECKING

from aicert.cli.terminal import add_format, complain, help_formatter, use_colour
from aicert.cli.verify.commands import add_policy_options, appraised, show_result
from aicert.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aicert.appraisal.result import AttestationResult
    from aicert.cli.terminal import Subparsers, Write
    from aicert.leasing.serving import Served
    from aicert.serving.endpoint import Endpoint

_CONNECT = """\
Open a local OpenAI endpoint. Each connection to the machine is judged before a prompt goes over it:
your policy accepts the machine, it serves this lease and the model of this certificate, and nobody
is between you and it.

  aicert connect https://10.0.0.4:8443 --lease 719013b3e3cbb8539017a0e3b4efa6d0 \\
    --certificate certificate.json --machine-image-lock image-serve.lock.toml

Then, in another terminal, start any OpenAI client with the OPENAI_BASE_URL that is shown. Ctrl-C
ends it, and so does the first evidence that is refused.
"""
_EXITS = "exit codes: 0 ended by Ctrl-C, 1 the evidence says no, 2 no verdict, 3 bad command line"
# What it means that a check of the machine is ok, in the order of the checks.
MEANINGS = {
    "serve.fresh": "the evidence answers this connection's nonce",
    "serve.chain": "the attestation key chains to root {root}",
    "serve.tier": "{tier}, as the policy requires or better",
    "serve.quote": "signed by that key, with the values of PCRs 0 to 15",
    "serve.image": "{image}",
    "serve.firmware": "{firmware}",
    "serve.channel": "bound to this TLS key and this connection: nobody is in between",
    "serve.lease": "{lease}",
    "serve.terms": "the measured terms, {terms}",
    "serve.model": "{model}, from a certificate that is consistent",
    "serve.registers": "the machine measured that it serves this model and has not stopped",
    "serve.boot": "boot {boots}, not resumed; its meter is at {meter}",
}
OMITS = (
    "whether answers are right; and how long they are, which anybody who watches the network sees",
    "below tier confidential, the host's operator: its memory holds prompts and answers",
    "other programs on this computer, which can use the endpoint too",
)


def add_command(commands: "Subparsers") -> None:
    """Add `connect` to the parser of `aicert`."""
    parser = commands.add_parser(
        "connect",
        help="talk to a machine that serves a leased model",
        description=_CONNECT,
        epilog=_EXITS,
        formatter_class=help_formatter,
    )
    add = parser.add_argument
    add("url", metavar="URL", help="where the machine is: https://HOST:PORT")
    add("--lease", metavar="ID", required=True, help="the lease that it must serve")
    add("--certificate", metavar="CERT", required=True, help="its model's certificate")
    add(
        "--port", metavar="N", type=int, default=0, help="the local port; any free one if not given"
    )
    add("--receipts", metavar="FILE", help="ask for a receipt for each answer, and add it to FILE")
    add_policy_options(parser)
    add("--machine-policy", metavar="P", help="--policy for the machine, if it differs")
    add("--machine-root", metavar="PEM", help="--root for the machine, if it differs")
    add("--machine-image-lock", metavar="L", help="the lock of a serving image that you accept")
    add_format(parser)
    # No local model is given: the machine has the model's files.
    parser.set_defaults(run=_connect, model=None)


def _connect(options: argparse.Namespace, say: "Write") -> int:
    from aicert.serving import connections, receipt_file
    from aicert.serving.endpoint import Endpoint
    from aicert.verifier import verify as api

    certified = appraised(options, api.read_certificate(options.certificate))
    if certified.certificate_consistent != "yes":
        # A certificate alone never passes, but for this one more than its model's files is
        # undecided.
        return show_result(certified, options.format)
    policy = connections.machine_policy(
        options.machine_policy,
        options.policy,
        root=options.machine_root,
        image=options.machine_image_lock,
        certificates_root=options.root,
        certificates_image=options.image_lock,
    )
    machine = connections.target_machine(options.url, options.lease, certified, policy)
    as_json = options.format == "json"
    keep = None if options.receipts is None else receipt_file.keep_in(options.receipts)
    endpoint = Endpoint(machine, options.port, keep)
    try:
        with endpoint:
            say(_json(endpoint) if as_json else _text(options, endpoint, certified))
            endpoint.wait()
    except KeyboardInterrupt:
        # This is printed only now that it is true.
        complain("\nclosed: the endpoint no longer listens\n")
    return 0


def _json(endpoint: "Endpoint") -> str:
    served = endpoint.served
    document = {
        "verdict": "passed",
        "baseUrl": endpoint.base_url,
        "tier": served.tier,
        "root": served.root,
        "image": None if served.image is None else str(served.image.digest),
        "lease": served.terms.lease,
        "terms": str(served.terms.digest),
        "model": str(served.terms.model),
        "boots": served.statement.boots,
        "meter": served.meter,
    }
    return json.dumps(document, indent=2) + "\n"


def _text(options: argparse.Namespace, endpoint: "Endpoint", certified: "AttestationResult") -> str:
    """Describe what was verified, once: every later connection is to the same boot."""
    from aicert.appraisal.result import below_vtpm

    served = endpoint.served
    forged = ": the operator could have forged this" if below_vtpm(served.tier) else ""
    head = [
        ("machine", safe(options.url)),
        ("lease", f"{served.terms.lease}, terms {served.terms.digest}"),
        ("model", f"{served.terms.model}, certificate {safe(options.certificate)}"),
        ("policy", f"{safe(certified.policy)}, certificate judged at {certified.at}"),
    ]
    url = endpoint.base_url
    end = [
        *(("Trusts" if not n else "", line) for n, line in enumerate(_trusts(served))),
        *(("Omits" if not n else "", line) for n, line in enumerate(OMITS)),
        *_receipts(options),
        ("endpoint", f"{url}, model {served.terms.lease}; Ctrl-C ends it"),
    ]
    verdict = _green(f"PASSED    ({served.tier}{forged})")
    paste = f"  export OPENAI_BASE_URL={shlex.quote(url)} OPENAI_API_KEY=none\n"
    return f"{_lines(head)}\n{_checks(served)}\n{verdict}\n{_lines(end)}\n{paste}"


def _receipts(options: argparse.Namespace) -> list[tuple[str, str]]:
    if options.receipts is None:
        return []
    return [("receipts", f"of each answer, signed by this boot's key, to {safe(options.receipts)}")]


def _checks(served: "Served") -> str:
    image = served.image
    facts = {
        "root": safe(served.root),
        "tier": served.tier,
        "image": "none: nothing measures a boot of this platform",
        "firmware": "not measured",
        "terms": served.terms.digest,
        "lease": served.terms.lease,
        "model": served.terms.model,
        "boots": served.statement.boots,
        "meter": served.meter,
    }
    if image is not None:
        facts["image"] = f"{safe(image.name)}, {image.digest}"
        facts["firmware"] = "PCRs 0 to 3 and 7 are of a firmware that the policy accepts"
    return "".join(
        f"  {_green('ok    ')}  {check:<20} {meaning.format(**facts)}\n"
        for check, meaning in MEANINGS.items()
    )


def _trusts(served: "Served") -> tuple[str, str]:
    image = "that platform's system" if served.image is None else f"image {safe(served.image.name)}"
    return (
        f"root {safe(served.root)}, for the TPM that signed",
        f"{image}, to show prompts to nobody and to serve what it measured",
    )


def _lines(facts: "Sequence[tuple[str, str]]") -> str:
    return "".join(f"{word:<10}{text}\n" for word, text in facts)


def _green(words: str) -> str:
    from aicert.cli.table import GREEN, PLAIN

    return f"{GREEN}{words}{PLAIN}" if use_colour() else words
