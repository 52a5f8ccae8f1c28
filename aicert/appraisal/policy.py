"""Appraisal policies: what one verifier accepts (docs/spec/policy.md).

A policy is the verifier's own and never comes with the evidence. Built in are `default` (a cloud's
virtual TPM), `confidential` (in a machine that its processor protects), `local` and `qemu`
(simulated platforms, whose root the caller gives). Nothing in a policy skips a check: it says which
roots, processors, images, firmware and report values are accepted.
Reading policy files is in `policy_file`, so that built-in policies do not need a TOML parser.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aicert.appraisal.ak_chain import SIMULATED_TIERS, Root, load
from aicert.appraisal.result import TIERS
from aicert.crypto.simulated import simulated_driver
from aicert.errors import AicertError, ConfigError
from aicert.formats.digest import Digest
from aicert.frozen import dataclass, replace

if TYPE_CHECKING:
    from aicert.formats.image_lock import ImageLock

FIRMWARE_PCRS = (0, 1, 2, 3, 7)
BUILT_IN = ("default", "confidential", "local", "qemu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """The values, among PCRs 0, 1, 2, 3 and 7, that one accepted platform firmware gives."""

    name: str
    pcrs: Mapping[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A bound on a number of the run report, and which origins the verifier believes."""

    name: str
    at_least: float | None = None
    at_most: float | None = None
    origins: frozenset[str] = frozenset(("measured", "derived"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipRoot:
    """A family of processors whose reports count: the maker's root for it and the certificate, by
    that root, that issues those of chips (DER); and the least firmware versions, by component.
    """

    name: str
    root: bytes
    issuer: bytes
    minimum: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Who signs what confidential guests are started with: SHA-384 of his key, as processors report
    it (ID_KEY_DIGEST), and the least security version number (GUEST_SVN).
    """

    name: str
    id_key: bytes
    minimum_svn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is accepted. `accepted` and `revoked` are digests of image locks; `images` are the
    locks that the verifier holds itself, by digest; `max_age_days` None sets no maximum. `chips`
    and `launches` are asked for where a root's tier is `confidential`.
    """

    name: str
    tier: str
    roots: tuple[Root, ...]
    accepted: frozenset[Digest] = frozenset()
    revoked: frozenset[Digest] = frozenset()
    images: "Mapping[Digest, ImageLock]"
    firmware: tuple[Firmware, ...] = ()
    chips: tuple[ChipRoot, ...] = ()
    launches: tuple[Launch, ...] = ()
    claims: tuple[Claim, ...] = ()
    max_age_days: int | None = None

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise ConfigError(f"policy {self.name}: no tier is named {self.tier!r}")
        if len({root.der for root in self.roots}) != len(self.roots):
            raise ConfigError(f"policy {self.name}: a root is given twice")
        for root in self.roots:
            _check_root(root, self.name)
        # Of two minimums for one thing, the one that is looked at first would hold.
        _check_once(self.name, "[[chip]]", "issuer", [(one.issuer, one.name) for one in self.chips])
        keys = [(one.id_key, one.name) for one in self.launches]
        _check_once(self.name, "[[launch]]", "id-key", keys)


def built_in(name: str) -> Policy:
    """A built-in policy; `local` and `qemu` accept nothing until `with_root` gives them a root."""
    if name == "default":
        from aicert.trust.azure import TRUSTED_LAUNCH
        from aicert.trust.roots import azure_vtpm_2023

        roots = (azure_vtpm_2023(),)
        return Policy(name=name, tier="vtpm", roots=roots, images={}, firmware=TRUSTED_LAUNCH)
    if name == "confidential":
        from aicert.trust.azure import CHIPS, LAUNCHES
        from aicert.trust.roots import azure_confidential_2023, chip_root

        return Policy(
            name=name,
            tier=name,
            roots=(azure_confidential_2023(),),
            images={},
            chips=tuple(chip_root(family, least) for family, least in CHIPS.items()),
            launches=LAUNCHES,
        )
    if name == "local":
        return Policy(name=name, tier=SIMULATED_TIERS[name], roots=(), images={})
    if name == "qemu":
        from aicert.trust.ovmf import BUILDS

        firmware = tuple(BUILDS.values())
        return Policy(name=name, tier=SIMULATED_TIERS[name], roots=(), images={}, firmware=firmware)
    raise ConfigError(f"no policy is built in as {name!r}, only {', '.join(BUILT_IN)}")


def with_root(policy: Policy, pem: bytes, what: str) -> Policy:
    """`policy` accepting the simulated platforms of one more root, which the caller trusts.

    Only a root that says that it is simulated can be added like this: its tier follows from its own
    critical extension. A root of real platforms needs a policy file, which states its tier.
    """
    from aicert.trust.roots import pem_to_der

    try:
        der = pem_to_der(pem, what)
        driver = simulated_driver(load(der, what))
    except ConfigError:
        raise
    except AicertError as error:
        raise ConfigError(f"{what}: {error.message}") from None
    if driver not in SIMULATED_TIERS:
        raise ConfigError(
            f"{what} is not the root of a simulated platform, so its tier is unknown",
            hint="write a policy file with a [[root]] that states its tier (docs/spec/policy.md)",
        )
    if policy.name in SIMULATED_TIERS and driver != policy.name:
        raise ConfigError(
            f"{what} certifies simulated:{driver} platforms, policy {policy.name} wants "
            f"simulated:{policy.name}",
            hint=f"--policy {driver}",
        )
    root = Root(name=f"simulated:{driver}", der=der, tier=SIMULATED_TIERS[driver], simulated=driver)
    return replace(policy, roots=(*policy.roots, root))


def with_image(policy: Policy, image: "ImageLock") -> Policy:
    """`policy` accepting one more machine image, of which the caller holds the lock."""
    return replace(
        policy,
        accepted=policy.accepted | {image.digest},
        images={**policy.images, image.digest: image},
    )


def require_roots(policy: Policy) -> Policy:
    """`policy`, if it names a root; ConfigError where nothing could ever chain to it."""
    if policy.roots:
        return policy
    hint = "--root PEM"
    if policy.name in SIMULATED_TIERS:
        hint += f": the maker's checkout has it at .aicert/ca/{policy.name}.pem"
    raise ConfigError(f"policy {policy.name} names no platform root", hint=hint)


def _check_once(policy: str, table: str, what: str, found: list[tuple[bytes, str]]) -> None:
    seen = set()
    for value, name in found:
        if value in seen:
            raise ConfigError(f"policy {policy}: two {table} have the same {what}: {name}")
        seen.add(value)


def _check_root(root: Root, policy: str) -> None:
    if root.tier not in TIERS:
        raise ConfigError(f"policy {policy}: root {root.name}: no tier is named {root.tier!r}")
    if root.tier == TIERS[-1]:
        raise ConfigError(
            f"policy {policy}: root {root.name}: no evidence of tier {root.tier} can be judged yet"
        )
    driver = simulated_driver(load(root.der, f"root {root.name}"))
    tier = root.tier if driver is None else SIMULATED_TIERS.get(driver)
    if driver != root.simulated or root.tier != tier:
        raise ConfigError(
            f"policy {policy}: root {root.name} is of simulated:{driver} platforms, "
            f"tier {SIMULATED_TIERS.get(driver or '', 'unknown')}, not {root.tier}"
        )


def root_from_certificate(
    name: str,
    der: bytes,
    tier: str,
    *,
    needs_eku: bool,
    subjects: tuple[str, ...],
    intermediates: tuple[bytes, ...] = (),
) -> Root:
    """A root of a policy file; whether it is simulated follows from its own extension."""
    driver = simulated_driver(load(der, f"root {name}"))
    for one in intermediates:
        load(one, f"an intermediate of root {name}")
    return Root(
        name=name,
        der=der,
        tier=tier,
        simulated=driver,
        needs_eku=needs_eku,
        subjects=subjects,
        intermediates=intermediates,
    )


def describe(policy: Policy) -> str:
    """One line for people: the policy, the tier that it wants, the roots that it accepts."""
    roots = ", ".join(root.name for root in policy.roots)
    return f"policy {policy.name}: tier {policy.tier} or better, roots {roots}"
