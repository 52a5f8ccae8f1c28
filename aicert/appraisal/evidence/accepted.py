"""What a policy accepts of each kind of evidence (docs/spec/policy.md): records that judge nothing.

A policy holds them; the module of each kind, beside this one, judges by them.
"""

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

from aicert.formats.digest import Digest
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from aicert.tlog.notes import VerifierKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipRoot:
    """A family of processors whose reports count: the maker's root for it and the certificate under
    that root that issues chips' certificates (DER), or those of a cloud's own keys on them
    (`vlek`); and the minimum firmware versions, by component. `known`: known attacks on the family,
    to be shown.
    """

    name: str
    root: bytes
    issuer: bytes
    minimum: Mapping[str, int]
    vlek: bool = False
    known: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdKeySigner:
    """Who signs what confidential guests are started with: the SHA-384 of the signer's key, as
    processors report it (ID_KEY_DIGEST), and the minimum security version number (GUEST_SVN).

    `chip`: the ChipRoot to whose processors this applies, empty for all: one key's version numbers
    are separate on each. `until`: the last day on which it is accepted, None if it is not retired.
    """

    name: str
    id_key: bytes
    minimum_svn: int = 0
    chip: str = ""
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TdRoot:
    """A maker's root (DER) for processors whose trust domains (TDX) count: the accepted `statuses`
    of firmware, in the maker's words, and the minimum number of the maker's evaluation.
    """

    name: str
    root: bytes
    statuses: frozenset[str]
    minimum_evaluation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Td:
    """An accepted trust domain: how it was built (MRTD), its four registers, zero if nothing
    extends them, and the last day on which it is accepted, None if it is not retired.
    """

    name: str
    mrtd: bytes
    rtmrs: tuple[bytes, ...] = (bytes(48),) * 4
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAuthority:
    """A time authority whose stamps count: the root of its certificates (DER), and others that
    complete the chain for tokens that lack them.
    """

    name: str
    root: bytes
    intermediates: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSigner:
    """A transparency log that counts, whose origin is its key's name; or a witness, whose time
    counts.
    """

    name: str
    key: "VerifierKey"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRoot:
    """A maker's roots (DER) for GPUs and the switches between them, and for what it publishes about
    them; and which versions of driver and VBIOS are accepted, empty for any published one.
    """

    name: str
    root: bytes
    rim_root: bytes
    drivers: frozenset[str] = frozenset()
    vbios: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditDemand:
    """Demands that audits of one kind read all rows, of one column or (None) of all text, with the
    list of this digest if the kind has one, and bounds what they may have counted. Without a bound
    (None), any count but 0 gives no verdict. `texts`: texts beside the rows that the verifier
    knows.
    """

    kind: str
    column: str | None = None
    list: Digest | None = None
    at_most: int = 0
    missing: int | None = None
    unparsable: int | None = None
    unusable: int | None = None
    unread_bytes: int | None = None
    texts: frozenset[Digest] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """FLOP/s that no virtual processor and no accelerator exceeds, whatever the precision, as of
    the day on which somebody last `reviewed` these limits.
    """

    processor: float
    accelerator: float
    reviewed: date


# A processor: 2,048 bfloat16 operations in a cycle (Intel's AMX) at 4 GHz are 8e12. An accelerator:
# the fastest that the GPU image's driver knows (NVIDIA's B300) has 1.5e16 of four bits.
CAPS = Caps(processor=1e13, accelerator=2e16, reviewed=date(2026, 11, 28))


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeDemand:
    """How much may have been computed, in FLOP: by the run alone, or with `lineage` also by all
    runs that made its weights.
    """

    at_most: float
    lineage: bool = False
    caps: Caps = CAPS
