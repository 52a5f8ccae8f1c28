"""`./doit azure_calibrate [CERTIFICATE]`: what to record from a first run on Azure, and a check of
one.

Without a certificate, it prints the PCRs predicted from the image's bytes, those that the default
policy accepts, and what to record. With one, it prints each quoted PCR next to the expected ones,
and policy lines that would accept that machine's firmware. If Azure did not sign the quote, it says
so.
"""

import datetime
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from aicert.appraisal.appraise import appraise
from aicert.appraisal.policy import FIRMWARE_PCRS, Policy
from aicert.cli import terminal
from aicert.errors import ConfigError, ToolError
from aicert.formats import image_lock
from aicert.formats.certificate import Certificate
from aicert.formats.lockfile import identity
from aicert.text import safe
from aicert.trust.built_in import built_in
from aicert.verifier import verify
from rules.commands.base import Command
from rules.host.terminal import users_path
from rules.image import build
from rules.image import pcrs as image_pcrs
from rules.machines.azure.machine import LAST

# These checks must pass before a PCR means anything.
GENUINE = ("platform.chain", "platform.tier", "quote.signature", "quote.structure", "quote.pcrs")
_OPTIONS = 3
RECORD = """\
record      of a first real run, beside the commit of this repository
  1  certificates/RUN/certificate.json, or .aicert/azure/last-certificate.json where
     certify refused it: the quote, all sixteen registers, the attestation key's
     certificate with its intermediates, nonce and run key
  2  size, region, date, and whether Secure Boot was off as terraform/azure asks
  3  PCR 0, 1, 2, 3, 7: a second machine of the size, and one of another size and
     region; do they agree? (firmware, boot variables, option ROMs, Secure Boot)
  4  PCR 4: equal to the first value above, or to one of the others?
  5  PCR 11, 12, 13: equal to the above; PCR 8 and 14: `aicert verify` compares them
  6  PCR 5, 9, 10, 15: quoted, not compared; only whether they change from run to run
  7  the console (boot diagnostics), and which disk the machine saw under which number
  8  NV 0x01C101D0: its size and padding; on a confidential size NV 0x01400001 as well"""
STOPS = """\
stops       where a first run on today's hosts is likely to stop
  platform.chain the TPM holds only the AK's certificate; of its issuers, `Azure Cloud
                 Virtual TPM CA - NN`, number 11 is pinned. For another the verdict names
                 it, and the lines of a policy that add it ([[intermediate]])
  boot.firmware  PCR 0 differed on each of eight machines of Azure, PCR 1 on most; PCR 7
                 recurs. A first run adds a dated set to a policy ([[firmware]]); sets of
                 one family may be mixed, register by register
  platform.chip  confidential sizes: no verdict until the host adds the chip certificate
                 (docs/spec/confidential.md) or, on Intel, the TD quote and Intel's
                 collateral (docs/spec/tdx.md); none for an unknown processor family
  platform.guest confidential sizes: a paravisor's key (AMD) or MRTD (Intel) that is not
                 accepted, or firmware below a floor; the verdict says which, and by how
                 much"""
UNPROVEN = """\
unproven    nobody has yet run this project's image on Azure. PCR 4 assumes firmware
            that starts the image with its first boot option; PCR 11 needs only the image"""


class Calibrate(Command):
    """What a first run on Azure must show, and what one showed."""

    name = "azure_calibrate"
    doc_purpose = "show what to record from a first run on Azure, or check its quote"
    doc_usage = "[CERTIFICATE]"
    doc_description = f"""\
Predicts PCR 4 and 11 from the image's bytes, lists the firmware values that the default policy
accepts, and says what to record. With a certificate (by default {LAST},
which a run on Azure leaves) it compares each register and prints the lines of a policy for that
firmware.

  ./doit azure_calibrate
  ./doit azure_calibrate certificates/my-run/certificate.json
"""

    def execute(self, params: Any, args: list[str]) -> int:
        """Print everything. Returns 0 whatever the certificate says: this is no verdict."""
        if len(args) > 1:
            raise ConfigError("azure_calibrate takes one certificate")
        root = Path.cwd()
        policy = built_in("default")
        first, others, origin = predicted(root)
        lines = [*_expected(policy, first, others, origin), UNPROVEN, STOPS, RECORD]
        path = users_path(args[0]) if args else root / LAST
        if args or path.is_file():
            certificate = verify.read_certificate(path)
            if certificate.evidence.platform is not None:
                policy = built_in("confidential")
            lines += ["", *compare(certificate, policy, first, others, os.path.relpath(path, root))]
        terminal.write("\n".join(lines) + "\n")
        return 0


def predicted(root: Path) -> tuple[dict[int, bytes], list[bytes], str]:
    """Return the predicted PCRs, PCR 4 after one or more failed boot options, and where they come
    from.
    """
    lock = build.read_lock(root)
    if lock is None:
        raise ToolError("there is no image lock", hint="./doit run image")
    where = replace(build.place(root), makes=False)
    try:
        built = build.build(where, lock.packages, snapshot=lock.snapshot)
    except ToolError:
        # The image was not built here: the lock has these values, and no more can be computed.
        return lock.pcrs, [], f"{lock.digest}, by its lock (./doit run image computes more)"
    uki = (built.folder / "uki.efi").read_bytes()
    others = [image_pcrs.predict(uki, failed_options=n)[4] for n in range(1, _OPTIONS + 1)]
    return image_pcrs.predict(uki), others, f"{image_lock.parse(built.lock).digest}, from its bytes"


def _expected(
    policy: Policy, first: dict[int, bytes], others: list[bytes], origin: str
) -> Iterator[str]:
    yield f"image       {origin}"
    yield f"predicted   PCR 4   {first[4].hex()}  first boot option"
    for number, value in enumerate(others, 1):
        yield f"            PCR 4   {value.hex()}  after {number} failed options"
    for index in (11, 12, 13):
        yield f"            PCR {index}  {first[index].hex()}"
    if not policy.firmware:
        yield f"accepted    policy {policy.name} names no firmware"
    for firmware in policy.firmware:
        yield f"accepted    {firmware.name}"
        for index, value in sorted(firmware.pcrs.items()):
            yield f"            PCR {index}   {value.hex()}"


def compare(
    certificate: Certificate,
    policy: Policy,
    first: dict[int, bytes],
    others: list[bytes],
    name: str,
) -> Iterator[str]:
    """Yield lines that show what the certificate's machine quoted, next to what is expected
    of it.
    """
    now = datetime.datetime.now(datetime.UTC)
    result = appraise(certificate, None, policy, at=now, lockfile=identity(certificate.lockfile))
    checks = {check.id: check for check in result.checks}
    yield f"quoted      {safe(name)}"
    wrong = [checks[check] for check in GENUINE if checks[check].verdict != "ok"]
    for check in wrong:
        yield f"            {check.id}: {safe(check.detail)}"
    if wrong:
        yield "            Azure did not sign this quote: the values below are of no use"
    pcrs = certificate.evidence.pcrs
    for index in (4, 11, 12, 13):
        place = _place(index, pcrs, first, others)
        yield f"            PCR {index:<3} {pcrs[index].hex()}  {place}"
    for index in FIRMWARE_PCRS:
        known = [item.name for item in policy.firmware if item.pcrs.get(index) == pcrs[index]]
        words = f"as {', '.join(known)}" if known else "in no accepted firmware"
        yield f"            PCR {index:<3} {pcrs[index].hex()}  {words}"
    if not wrong:
        families = [one.family for one in policy.firmware if one.family][:1]
        yield from (
            "",
            f"# of a policy that extends `{policy.name}`, once you understand its values",
        )
        yield from ("[[firmware]]", f'name = "azure-{now:%Y-%m-%d}"')
        yield from (f'family = "{family}"' for family in families)
        yield from (f'pcr{index} = "{pcrs[index].hex()}"' for index in FIRMWARE_PCRS)


def _place(index: int, pcrs: Any, first: dict[int, bytes], others: list[bytes]) -> str:
    if pcrs[index] == first[index]:
        return "as predicted"
    if index == 4 and pcrs[index] in others:
        return f"as predicted after {others.index(pcrs[index]) + 1} failed boot options"
    return "NOT as predicted"
