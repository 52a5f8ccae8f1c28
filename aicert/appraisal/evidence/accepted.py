"""What a policy accepts of each kind of evidence (docs/spec/policy.md): records that judge nothing.

A policy contains these records; the module for each kind of evidence in this folder judges by them.
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
    """A family of AMD processors whose reports are accepted.

    `root`: the maker's root for the family (DER). `issuer`: the certificate under that root that
    issues the chips' certificates, or (`vlek`) those of a cloud's own keys on the chips. `minimum`:
    the minimum firmware version of each component. `known`: known attacks on the family, to be
    shown.
    """

    name: str
    root: bytes
    issuer: bytes
    minimum: Mapping[str, int]
    vlek: bool = False
    known: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdKeySigner:
    """A signer that the policy accepts for the software with which confidential guests start.

    `id_key`: the SHA-384 of the signer's key, as processors report it (ID_KEY_DIGEST).
    `minimum_svn`: the minimum security version number (GUEST_SVN). `chip`: the ChipRoot to whose
    processors this applies, empty for all; a signer counts versions separately for each. `until`:
    the last day on which the signer is accepted, None if it is not retired.
    """

    name: str
    id_key: bytes
    minimum_svn: int = 0
    chip: str = ""
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TdRoot:
    """A maker's root (DER) for processors whose trust domains (TDX) are accepted.

    `statuses`: the accepted statuses of firmware, in the maker's words. `minimum_evaluation`: the
    minimum number of the maker's evaluation.
    """

    name: str
    root: bytes
    statuses: frozenset[str]
    minimum_evaluation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Td:
    """An accepted trust domain.

    `mrtd`: the measurement of how it was built. `rtmrs`: its four registers, zero if nothing
    extends them. `until`: the last day on which it is accepted, None if it is not retired.
    """

    name: str
    mrtd: bytes
    rtmrs: tuple[bytes, ...] = (bytes(48),) * 4
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAuthority:
    """A time authority whose stamps are accepted.

    `root`: the root of its certificates (DER). `intermediates`: certificates that complete the
    chain for tokens that lack them.
    """

    name: str
    root: bytes
    intermediates: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSigner:
    """An accepted transparency log, whose origin is its key's name; or a witness whose time is
    accepted.
    """

    name: str
    key: "VerifierKey"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRoot:
    """A maker's roots (DER) for its GPUs and switches, and for what it publishes about them.

    `drivers`, `vbios`: the accepted versions, empty for any published one.
    """

    name: str
    root: bytes
    rim_root: bytes
    drivers: frozenset[str] = frozenset()
    vbios: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditDemand:
    """A demand for audits of one kind that read all rows, and bounds on what they may have counted.

    `column`: the column that they read, None for all text. `list`: the digest of the list that they
    must use, if the kind has one. Without a bound (None), any count but 0 gives no verdict.
    `texts`: texts besides the rows that the verifier knows.
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
class EvaluationDemand:
    """A demand for an evaluation of the model: a metric of a task, and bounds on it.

    `task`: the digest of what was asked, rows and prompts. `samples`: the minimum number of samples
    that the metric is about. `template_tokens`: how many of its tokens may come from no row; if it
    is None, any count but 0 gives no verdict.
    """

    task: Digest
    metric: str
    samples: int
    at_least: float | None = None
    at_most: float | None = None
    template_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """FLOP/s that no virtual processor and no accelerator exceeds, whatever the precision.

    `reviewed`: the day on which somebody last reviewed these limits.
    """

    processor: float
    accelerator: float
    reviewed: date


# For a processor: 2,048 bfloat16 operations in a cycle (Intel's AMX) at 4 GHz are 8e12. For an
# accelerator: the fastest that the GPU image's driver knows (NVIDIA's B300) has 1.5e16 with four
# bits.
CAPS = Caps(processor=1e13, accelerator=2e16, reviewed=date(2026, 11, 28))


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeDemand:
    """How much may have been computed, in FLOP: by the run alone or, with `lineage`, also by all
    runs that made its weights.
    """

    at_most: float
    lineage: bool = False
    caps: Caps = CAPS
