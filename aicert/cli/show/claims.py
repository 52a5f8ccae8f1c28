"""What a certificate claims, for `aicert show`: parsed, bounded and escaped, but not verified."""

from collections.abc import Mapping
from typing import cast

from aicert.errors import AicertError
from aicert.formats import lockfile as lockfiles
from aicert.formats import run_report, run_report_facts
from aicert.formats import statement as statements
from aicert.formats.certificate import TDX, Certificate, core_digest
from aicert.formats.digest import of_bytes
from aicert.formats.run_report import NO_RESULTS, RunReport
from aicert.text import counted, safe
from aicert.verifier.facts import fact_lines

MAX_SHOWN = 50
_PCR, _BANK = "pcr", "sha256"
BANNER = "a certificate's claims; nothing here was verified (aicert verify does that)"


def claims(certificate: Certificate) -> dict[str, object]:
    """Return the claims as JSON-ready values; EvidenceError if the statement cannot be read."""
    statement = statements.parse(certificate.envelope.payload)
    report = run_report.parse(statement.report)
    return {
        "verified": False,
        "digest": str(core_digest(certificate)),
        "run": statement.run,
        "trainer": statement.trainer,
        "started": statement.started,
        "finished": statement.finished,
        "exitCode": report.exit_code,
        "builder": statement.builder_id,
        "lockfile": str(of_bytes(certificate.lockfile)),
        "lockfileReadable": _lockfile_state(certificate),
        "nonce": certificate.evidence.nonce.hex(),
        "timestamps": list(certificate.evidence.timestamps),
        "inputs": [
            {"name": d.name, "uri": d.uri, "digest": str(d.digest)} for d in statement.dependencies
        ],
        "signers": dict(report.signers),
        "audits": {name: str(digest or NO_RESULTS) for name, digest in report.audits},
        "outputs": {
            name: {"digest": str(output.digest), "files": dict(output.files)}
            for name, output in statement.outputs.items()
        },
        "report": {
            key: {
                "value": list(value.data) if isinstance(value.data, tuple) else value.data,
                "origin": value.origin,
            }
            for key, value in report.values.items()
        },
        "overrides": [
            {"key": o.key, "configured": o.configured, "used": o.used, "why": o.why}
            for o in report.overrides
        ],
        "version": certificate.version,
        "attestedSeconds": _seconds(certificate),
        **_facts(report),
        "imageLock": _image_lock(certificate),
        "bootLog": boot(certificate),
    }


def _seconds(certificate: Certificate) -> float | None:
    """Return the run's duration in seconds, derived as the verifier derives it.

    It is the quote's clock minus the clock of the run key's certification. None in version 1, and
    if the evidence is not such a pair.
    """
    from aicert.formats import tpm

    evidence = certificate.evidence
    try:
        start = tpm.parse_certification(evidence.run_key_certify.attest).clock.clock
        end = tpm.parse_quote(evidence.quote.attest).clock.clock
    except AicertError:
        return None
    return (end - start) / 1000 if certificate.version > 1 and end >= start else None


def _facts(report: RunReport) -> dict[str, object]:
    """Return the run report's facts; null in version 1, which has none."""
    if report.facts is None:
        return dict.fromkeys(("records", "loss", "texts", "removed"))
    return run_report_facts.plain(report.facts)


def _image_lock(certificate: Certificate) -> str | None:
    return None if certificate.image_lock is None else str(of_bytes(certificate.image_lock))


def _lockfile_state(certificate: Certificate) -> str:
    try:
        lockfiles.parse(certificate.lockfile)
    except AicertError as error:
        return error.message
    return "canonical"


def _timestamps(certificate: Certificate) -> list[str]:
    """List the kinds of time stamps; nothing is verified."""
    kinds = [entry.partition(":")[0] for entry in certificate.evidence.timestamps]
    return [f"stamped   {safe(', '.join(kinds))}"] if kinds else []


def claims_text(certificate: Certificate) -> str:
    """Return the claims as text for people."""
    statement = statements.parse(certificate.envelope.payload)
    report = run_report.parse(statement.report)
    seconds = _seconds(certificate)
    lines = [
        BANNER,
        "",
        f"run       {safe(statement.run)}, trainer {safe(statement.trainer)}",
        f"times     {statement.started} to {statement.finished} (the machine's own clock)",
        *([] if seconds is None else [f"took      {seconds:.3f} s by the TPM's clock"]),
        f"ended     exit code {safe(report.exit_code)}",
        f"builder   {safe(statement.builder_id)}",
        f"lockfile  {of_bytes(certificate.lockfile)} ({safe(_lockfile_state(certificate))})",
        f"nonce     {certificate.evidence.nonce.hex()}",
        f"digest    {core_digest(certificate)} (of the certificate without its time stamps)",
        *_timestamps(certificate),
        "",
    ]
    lines += _limited(
        [
            f"input     {safe(d.name):<16} {d.digest}  {safe(d.uri, 80)}"
            for d in statement.dependencies
        ]
    )
    lines += _limited([f"signed    {safe(n):<16} by {safe(key)}" for n, key in report.signers])
    lines += _limited([f"audit     {safe(n):<16} {one or NO_RESULTS}" for n, one in report.audits])
    for name, output in statement.outputs.items():
        lines.append(
            f"output    {safe(name):<16} {output.digest}, {counted(len(output.files), 'file')}"
        )
        lines += _limited([f"          sha256:{output.files[p]}  {safe(p)}" for p in output.files])
    if report.facts is not None:
        lines += ["", *fact_lines(report.facts)]
    lines.append("")
    for key, value in report.values.items():
        shown = f"{len(value.data)} numbers" if isinstance(value.data, tuple) else str(value.data)
        lines.append(f"report    {safe(key):<24} {safe(shown, 80)} ({value.origin})")
    lines += [
        f"override  {safe(o.key)}: {safe(o.configured, 60)} -> {safe(o.used, 60)}"
        f" ({safe(o.why, 120)})"
        for o in report.overrides
    ]
    lines += _limited(_boot_lines(certificate))
    return "\n".join(lines) + "\n"


def boot(certificate: Certificate) -> dict[str, object] | None:
    """Return what the boot log says about registers whose claimed values it replays to.

    The keys are `secureBoot` (None: the log cannot say) and `events`, or `error` if the log cannot
    be read. None if the certificate has no log.
    """
    data = certificate.evidence.event_log
    if data is None:
        return None
    from aicert.cli.show import event_log

    try:
        log = event_log.parse(data)
        key, bank, first, values = _registers(certificate, log.banks)
        facts = event_log.explain(log, bank, values)
        secure_boot = event_log.secure_boot(log, bank, values) if key == _PCR else None
    except AicertError as error:
        return {"error": error.message}
    events = [
        {key: f.pcr - first, "digest": f"{bank}:{f.digest.hex()}", "data": f.text} for f in facts
    ]
    return {"secureBoot": secure_boot, "events": events}


def _registers(
    certificate: Certificate, banks: tuple[str, ...]
) -> tuple[str, str, int, Mapping[int, bytes]]:
    """Return the log's registers: their name, bank, first number, and claimed values.

    The log of a trust domain (CCEL) is about the four registers in its quote, and has no PCR bank.
    """
    evidence = certificate.evidence
    if evidence.platform is None or evidence.platform.kind != TDX or _BANK in banks:
        return _PCR, _BANK, 0, evidence.pcrs
    from aicert.appraisal.evidence import tdx_quote

    quote = tdx_quote.parse(evidence.platform.report)
    return "rtmr", "sha384", 1, dict(enumerate(quote.rtmrs, 1))


def _boot_lines(certificate: Certificate) -> list[str]:
    log = boot(certificate)
    if log is None:
        return []
    if "error" in log:
        return [f"boot log  {safe(str(log['error']))}"]
    events = cast(list[dict[str, object]], log["events"])
    secure = {None: "is unknown", True: "was on", False: "was off"}[
        cast(bool | None, log["secureBoot"])
    ]
    known = f"{counted(len(events), 'event')} of registers that the log replays"
    lines = [f"boot log  Secure Boot {secure}; {known}"]
    for event in events:
        name = next(iter(event))
        data = "" if event["data"] is None else f"  {event['data']}"
        lines.append(f"          {name.upper()} {event[name]:<3} {event['digest']}{data}")
    return lines


def _limited(lines: list[str]) -> list[str]:
    if len(lines) <= MAX_SHOWN:
        return lines
    return [*lines[:MAX_SHOWN], f"          and {len(lines) - MAX_SHOWN} more"]
