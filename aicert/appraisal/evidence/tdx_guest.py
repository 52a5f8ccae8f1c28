"""Judge the quote of an Intel trust domain (TD) for platform.chip, platform.guest,
platform.binding.

A root of the policy certifies the processor's key; this key signed the quoting enclave's report,
and the collateral says that the enclave is Intel's; the report names the key that signed the quote.
Then the quote says which TDX module ran, and how the TD was built and extended. In Azure's machines
the TD is built with the paravisor (MRTD), and its registers stay zero; in a bare TD the registers
hold firmware, boot loader and system. The report data binds the attestation key.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aicert.appraisal.evidence import azure_hcl, intel_collateral, tdx_quote
from aicert.appraisal.evidence.intel_collateral import Level
from aicert.appraisal.policy import Policy
from aicert.crypto.signatures import point, public_key_info
from aicert.errors import EvidenceError, UndecidedError
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

# TD_ATTRIBUTES (Intel 344425, 3.4.1): the bits for debugging and profiling, any of which puts a TD
# under debug; then the bit for migration TDs, and other known, harmless bits.
_UNDER_DEBUG = 0xFF
_MIGRATABLE = 1 << 29
_KNOWN = _UNDER_DEBUG | _MIGRATABLE | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31 | 1 << 62 | 1 << 63
BINDING = b"aicert td v1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedTd:
    """A quote whose signatures were verified, and what Intel says about its processor.

    `runtime`: the text of Azure's paravisor that the quote must cover, None for a bare TD.
    """

    quote: tdx_quote.Quote
    platform: intel_collateral.Platform
    collateral: intel_collateral.Collateral
    runtime: bytes | None

    def described(self) -> str:
        """Return one line that says which processor signed the quote."""
        return (
            f"signed by a processor of {self.platform.root.name} (FMSPC {self.platform.fmspc}), "
            f"by collateral of {self.collateral.issued}"
        )

    def check_guest(self, policy: Policy, at: datetime) -> str:
        """Check that the TD's memory is private, and that the policy accepts its firmware and its
        build.
        """
        _check_attributes(self.quote)
        status = _check_versions(self, policy)
        return f"{_built_by(self.quote, policy, at)}, without debugging or migration; {status}"

    def check_binding(self, nonce: bytes, key: "PublicKeyTypes") -> str:
        """Check that the attestation key belongs to the TD.

        It belongs to the TPM of the TD's paravisor, or in a bare TD to the TD itself.
        """
        given = self.quote.report_data
        if self.runtime is not None:
            return azure_hcl.check_binding(given, self.runtime, key)
        expected = bound(nonce, key)
        if given != expected:
            raise EvidenceError(
                "the TD quote does not name this attestation key and nonce\n"
                f"found     {given.hex()}\nexpected  {expected.hex()}"
            )
        return "the TD says that the attestation key that signed is its own"


def verify(
    data: bytes,
    collateral: bytes | None,
    policy: Policy,
    at: datetime,
    runtime: bytes | None = None,
) -> VerifiedTd:
    """Return the quote, if a root of the policy and Intel's collateral vouch for its signer."""
    quote = tdx_quote.parse(data)
    platform = intel_collateral.certify(quote.certificates, policy.td_roots, at)
    tdx_quote.verify_raw(
        platform.key,
        quote.qe_signature,
        quote.qe.signed,
        "the quoting enclave's report is not signed by the processor's key",
    )
    named = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest()
    if quote.qe.report_data != named + bytes(32):
        raise EvidenceError("the quoting enclave's report does not name the key of the quote")
    x, y = quote.attestation_key[:32], quote.attestation_key[32:]
    key = point(x, y, 256, "the TD quote: its key is not a point on P-256")
    refusal = "the TD quote is not signed by the key that it names"
    tdx_quote.verify_raw(key, quote.signature, quote.signed, refusal)
    if collateral is None:
        raise UndecidedError(
            f"the certificate lacks Intel's collateral for FMSPC {platform.fmspc}, which anybody "
            "can give (docs/spec/tdx.md)",
            hint="--collateral FILE",
        )
    signed = intel_collateral.verify(collateral, platform, at)
    _check_enclave(quote.qe, signed.enclave)
    return VerifiedTd(quote=quote, platform=platform, collateral=signed, runtime=runtime)


def bound(nonce: bytes, key: "PublicKeyTypes") -> bytes:
    """Return the report data of a bare TD, from the nonce and the attestation key."""
    return hashlib.sha512(BINDING + nonce + public_key_info(key)).digest()


def _check_attributes(quote: tdx_quote.Quote) -> None:
    """Check that nobody else can read the TD's memory, by its attributes."""
    if quote.attributes & _UNDER_DEBUG:
        raise EvidenceError(
            f"the TD may be debugged: its host can read its memory (attributes "
            f"{quote.attributes:#x})"
        )
    if quote.attributes & _MIGRATABLE:
        raise EvidenceError("the TD may be moved by a migration TD, which reads its memory")
    if quote.attributes & ~_KNOWN:
        raise UndecidedError(f"the TD's attributes {quote.attributes:#x} are not all known")
    if any(quote.service_td):
        raise UndecidedError("the TD is bound to service TDs, which are not judged")


def _check_enclave(qe: tdx_quote.QeReport, wanted: intel_collateral.Enclave) -> None:
    given = _masked(qe.misc_select, wanted.misc[1]), _masked(qe.attributes, wanted.attributes[1])
    if given != (_masked(*wanted.misc), _masked(*wanted.attributes)):
        raise EvidenceError("the quoting enclave's properties are not those of Intel's")
    if (qe.mr_signer, qe.product) != (wanted.signer, wanted.product):
        raise EvidenceError(
            "the quoting enclave is not Intel's\n"
            f"found     {qe.mr_signer.hex()}, product {qe.product}\n"
            f"expected  {wanted.signer.hex()}, product {wanted.product}"
        )


def _masked(data: bytes, mask: bytes) -> bytes:
    return bytes(one & other for one, other in zip(data, mask, strict=True))


def _check_versions(td: VerifiedTd, policy: Policy) -> str:
    """Check that the policy accepts the status of processor, TDX module and quoting enclave.

    Returns the statuses, as text.
    """
    root, signed = td.platform.root, td.collateral
    if signed.evaluation < root.minimum_evaluation:
        raise EvidenceError(
            f"the collateral has evaluation number {signed.evaluation}, but policy {policy.name} "
            f"requires {root.minimum_evaluation} or above"
        )
    levels = {
        "processor": _processor(td),
        "TDX module": _module(td),
        "quoting enclave": _first(signed.enclave.levels, lambda one: td.quote.qe.svn >= one.svn),
    }
    old = [
        f"{name} is {'below every level' if level is None else level.status}"
        for name, level in levels.items()
        if level is None or level.status not in root.statuses
    ]
    if old:
        raise EvidenceError(
            f"the firmware is not what policy {policy.name} accepts on {root.name} "
            f"({', '.join(sorted(root.statuses))}): {', '.join(old)}\n"
            f"found     processor {list(td.platform.components)}, PCE {td.platform.pce_svn}, "
            f"TD {list(td.quote.tcb_svn)}, quoting enclave {td.quote.qe.svn}"
        )
    return ", ".join(f"{name} {level.status}" for name, level in levels.items() if level)


def _first(levels: tuple[Level, ...], holds: Callable[[Level], bool]) -> Level | None:
    """Return the first level that is reached; Intel sorts levels from the newest."""
    return next(filter(holds, levels), None)


def _processor(td: VerifiedTd) -> Level | None:
    # If the module has a major version, its levels are in its identity and not here.
    start = 2 if td.quote.tcb_svn[1] else 0

    def holds(level: Level) -> bool:
        return (
            all(map(int.__ge__, td.platform.components, level.components))
            and td.platform.pce_svn >= level.svn
            and all(map(int.__ge__, td.quote.tcb_svn[start:], level.td_components[start:]))
        )

    return _first(td.collateral.levels, holds)


def _module(td: VerifiedTd) -> Level | None:
    """Check that Intel signed the TDX module; return the level of its major and minor version."""
    quote = td.quote
    minor, major = quote.tcb_svn[0], quote.tcb_svn[1]
    name = f"TDX_{major:02X}" if major else ""
    module = td.collateral.modules.get(name)
    if module is None:
        raise UndecidedError(f"the collateral says nothing about TDX module {name}")
    attributes = _masked(quote.module_attributes, module.mask)
    if quote.module_signer != module.signer or attributes != _masked(
        module.attributes, module.mask
    ):
        raise EvidenceError("the TDX module is not Intel's")
    # The oldest module has no levels of its own: the processor's levels include it.
    return _first(module.levels, lambda one: minor >= one.svn) if major else _processor(td)


def _built_by(quote: tdx_quote.Quote, policy: Policy, at: datetime) -> str:
    """Return which accepted TD this is: any other TD could say anything about its
    attestation key.
    """
    if not policy.tds:
        raise UndecidedError(f"policy {policy.name} names no TD that it accepts")
    today = at.astimezone(UTC).date()
    for one in policy.tds:
        if (one.mrtd, one.rtmrs) == (quote.mrtd, quote.rtmrs) and (
            one.until is None or today <= one.until
        ):
            return f"built as {one.name}"
    names = ", ".join(
        f"{one.name}{f' (until {one.until})' if one.until else ''}" for one in policy.tds
    )
    registers = "".join(f"\n          RTMR{i} {value.hex()}" for i, value in enumerate(quote.rtmrs))
    raise EvidenceError(
        f"policy {policy.name} does not accept this TD; it accepts {names}\n"
        f"found     MRTD {quote.mrtd.hex()}{registers}"
    )
