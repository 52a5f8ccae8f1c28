"""Appraisal policies: what one verifier accepts (docs/spec/policy.md).

A policy is the verifier's own and never comes with the evidence. Nothing in it skips a check: it
says which roots, processors, images, firmware and report values are accepted. Built-in policies are
in `trust/built_in.py`, and `trust/policy_file.py` reads policy files: this module contains no
platform's values.
"""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from aicert.appraisal.ak_chain import SIMULATED_TIERS, Root
from aicert.appraisal.result import TIERS
from aicert.crypto.simulated import simulated_driver
from aicert.crypto.x509 import load
from aicert.errors import ConfigError
from aicert.formats.digest import Digest
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from aicert.appraisal.evidence import accepted as of
    from aicert.formats.image_lock import ImageLock

FIRMWARE_PCRS = (0, 1, 2, 3, 7)
# Two clocks may differ by this much; if they differ more, one of them is wrong.
CLOCK_SKEW = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """The values of PCRs 0, 1, 2, 3 and 7, or some of them, under one accepted platform firmware.

    Sets of one `family` may be mixed: each register must match one of them. A set without a family
    stands alone.
    """

    name: str
    pcrs: Mapping[int, bytes]
    family: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A bound on a number in the run report, and the origins that the verifier believes for it."""

    name: str
    at_least: float | None = None
    at_most: float | None = None
    origins: frozenset[str] = frozenset(("measured", "derived"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a verifier accepts.

    `accepted` and `revoked`: digests of image locks; `reasons`: why some are revoked. `images`: the
    locks that the verifier holds itself, by digest. `max_age_days`: None if there is no maximum.
    `allow`: words for code of inputs that may have run in the trainer (`lockfile.CODE_WORDS`).
    `chips` and `id_key_signers`, or for TDX `td_roots` and `tds`, are used if a root's tier is
    `confidential`, and `gpus` too if it is `confidential-gpu`. `quorum`: how many of `witnesses`
    must cosign, 0 for all of them.
    """

    name: str
    tier: str
    roots: tuple[Root, ...]
    accepted: frozenset[Digest] = frozenset()
    revoked: frozenset[Digest] = frozenset()
    reasons: Mapping[Digest, str] = MappingProxyType({})
    images: "Mapping[Digest, ImageLock]"
    firmware: tuple[Firmware, ...] = ()
    chips: "tuple[of.ChipRoot, ...]" = ()
    id_key_signers: "tuple[of.IdKeySigner, ...]" = ()
    td_roots: "tuple[of.TdRoot, ...]" = ()
    tds: "tuple[of.Td, ...]" = ()
    gpus: "tuple[of.GpuRoot, ...]" = ()
    claims: tuple[Claim, ...] = ()
    audits: "tuple[of.AuditDemand, ...]" = ()
    evaluations: "tuple[of.EvaluationDemand, ...]" = ()
    max_age_days: int | None = None
    allow: frozenset[str] = frozenset()
    time_authorities: "tuple[of.TimeAuthority, ...]" = ()
    logs: "tuple[of.NoteSigner, ...]" = ()
    witnesses: "tuple[of.NoteSigner, ...]" = ()
    quorum: int = 0
    compute: "of.ComputeDemand | None" = None
    require: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise ConfigError(f"policy {self.name}: no tier is named {self.tier!r}")
        if len({root.der for root in self.roots}) != len(self.roots):
            raise ConfigError(f"policy {self.name}: a root is given twice")
        for root in self.roots:
            _check_root(root, self.name)
        roots = [(one.root, one.name) for one in self.time_authorities]
        _check_once(self.name, "[[time-authority]]", "root", roots)
        # A witness that counted twice could be a quorum alone; and a log cannot be its own witness.
        notes = [(one.key.public, one.name) for one in (*self.logs, *self.witnesses)]
        _check_once(self.name, "[[log]] or [[witness]]", "key", notes)
        # With two minimums for one thing, the first one would apply.
        _check_once(self.name, "[[chip]]", "issuer", [(one.issuer, one.name) for one in self.chips])
        _check_once(self.name, "[[tdx]]", "root", [(one.root, one.name) for one in self.td_roots])
        _check_once(self.name, "[[gpu]]", "root", [(one.root, one.name) for one in self.gpus])
        keys = [(one.id_key + one.chip.encode(), one.name) for one in self.id_key_signers]
        everywhere = {one.id_key for one in self.id_key_signers if not one.chip}
        again = (k for k in self.id_key_signers if k.chip and k.id_key in everywhere)
        keys += [(k.id_key, k.name) for k in again]
        _check_once(self.name, "[[launch]]", "id-key", keys)


def _check_once(policy: str, table: str, what: str, entries: list[tuple[bytes, str]]) -> None:
    seen = set()
    for value, name in entries:
        if value in seen:
            raise ConfigError(f"policy {policy}: two {table} have the same {what}: {name}")
        seen.add(value)


def _check_root(root: Root, policy: str) -> None:
    if root.tier not in TIERS:
        raise ConfigError(f"policy {policy}: root {root.name}: no tier is named {root.tier!r}")
    driver = simulated_driver(load(root.der, f"root {root.name}"))
    tier = root.tier if driver is None else SIMULATED_TIERS.get(driver)
    if driver != root.simulated or root.tier != tier:
        raise ConfigError(
            f"policy {policy}: root {root.name} is of simulated:{driver} platforms, "
            f"tier {SIMULATED_TIERS.get(driver or '', 'unknown')}, not {root.tier}"
        )
