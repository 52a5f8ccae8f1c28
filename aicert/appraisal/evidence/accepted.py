"""What a policy accepts of each kind of evidence (docs/spec/policy.md): records that judge nothing.

Each is judged by the module of its kind beside this one; a policy holds them.
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
    """A family of processors whose reports count: the maker's root for it and the certificate, by
    that root, that issues those of chips (DER), or of a cloud's own keys on them (`vlek`); and the
    least firmware versions, by component. `known`: what is known against the family, to be shown.
    """

    name: str
    root: bytes
    issuer: bytes
    minimum: Mapping[str, int]
    vlek: bool = False
    known: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdKeySigner:
    """Who signs what confidential guests are started with: SHA-384 of his key, as processors report
    it (ID_KEY_DIGEST), and the least security version number (GUEST_SVN).

    `chip`: the ChipRoot on whose processors this holds, empty for all: version numbers of one key
    count apart on each. `until`: the last day on which it is accepted, None if it is not retired.
    """

    name: str
    id_key: bytes
    minimum_svn: int = 0
    chip: str = ""
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TdRoot:
    """A maker's root (DER) of processors whose trust domains (TDX) count: `statuses` of firmware,
    in the maker's words, that are accepted, and the least number of its evaluation of them.
    """

    name: str
    root: bytes
    statuses: frozenset[str]
    minimum_evaluation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Td:
    """An accepted trust domain: how it was built (MRTD), its four registers, which are zero where
    nothing extends them; and the last day on which it is accepted, None if it is not retired.
    """

    name: str
    mrtd: bytes
    rtmrs: tuple[bytes, ...] = (bytes(48),) * 4
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAuthority:
    """Whose time stamps count: the root of its certificates (DER), and others that complete the way
    there for tokens that lack them.
    """

    name: str
    root: bytes
    intermediates: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSigner:
    """A transparency log that counts, whose origin is its key's name; or a witness of logs, whose
    time counts.
    """

    name: str
    key: "VerifierKey"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRoot:
    """A maker's roots (DER) of GPUs and the switches between them, and of what it publishes of
    them; and which versions of driver and VBIOS are accepted, empty for any that it published.
    """

    name: str
    root: bytes
    rim_root: bytes
    drivers: frozenset[str] = frozenset()
    vbios: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditDemand:
    """That audits of one kind read all rows, of one column or (None) of all text, with the list of
    this digest where the kind has one; and how much they may have counted. Without a bound (None)
    there is no verdict on what is not 0. `texts`: those beside the rows that the verifier knows.
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
    the day on which somebody `reviewed` that.
    """

    processor: float
    accelerator: float
    reviewed: date


# A processor: 2,048 bfloat16 operations in a cycle (Intel's AMX) at 4 GHz are 8e12. An accelerator:
# the fastest that the GPU image's driver knows (NVIDIA's B300) has 1.5e16 of four bits.
CAPS = Caps(processor=1e13, accelerator=2e16, reviewed=date(2026, 11, 28))


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeDemand:
    """How much may have been computed, in FLOP: by the run alone, or with `lineage` by all runs
    that made its weights, too.
    """

    at_most: float
    lineage: bool = False
    caps: Caps = CAPS
