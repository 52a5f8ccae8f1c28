"""The policies that come with the program, and what a caller adds to one (docs/spec/policy.md).

`default` requires Azure's virtual TPM, `google` that of Google's cloud, `confidential` one in a
machine that its processor protects, `confidential-gpu` such a machine with GPUs; `local` and `qemu`
are for simulated platforms, whose root the caller gives. Each policy loads its roots and reference
values when it is asked for: an appraisal under one policy reads no other's.
"""

from typing import TYPE_CHECKING

from aicert.appraisal.ak_chain import EKU_AK, SIMULATED_TIERS, Root
from aicert.appraisal.policy import Policy
from aicert.crypto.simulated import simulated_driver
from aicert.crypto.x509 import load
from aicert.errors import AicertError, ConfigError
from aicert.frozen import replace

if TYPE_CHECKING:
    from aicert.formats.image_lock import ImageLock


BUILT_IN = ("default", "confidential", "confidential-gpu", "google", "local", "qemu")


def built_in(name: str) -> Policy:
    """Return a built-in policy; `local` and `qemu` accept nothing until `with_root` adds a root."""
    if name == "default":
        from aicert.trust.azure import TRUSTED_LAUNCH
        from aicert.trust.roots import azure_vtpm_2023

        roots = (azure_vtpm_2023(),)
        return Policy(name=name, tier="vtpm", roots=roots, images={}, firmware=TRUSTED_LAUNCH)
    if name in ("confidential", "confidential-gpu"):
        from aicert.trust.azure import (
            CHIPS,
            CONFIDENTIAL,
            ID_KEY_SIGNERS,
            TDS,
            TDX_EVALUATION,
            TDX_STATUSES,
        )
        from aicert.trust.roots import azure_confidential_2023, chip_root, intel_tdx, nvidia

        return Policy(
            name=name,
            tier=name,
            roots=(azure_confidential_2023(name),),
            images={},
            chips=tuple(chip_root(family, least) for family, least in CHIPS.items()),
            id_key_signers=ID_KEY_SIGNERS,
            td_roots=(intel_tdx(TDX_STATUSES, TDX_EVALUATION),),
            tds=TDS,
            gpus=(nvidia(),) if name == "confidential-gpu" else (),
            firmware=CONFIDENTIAL,
        )
    if name == "google":
        from aicert.trust.roots import google_2022

        return Policy(name=name, tier="vtpm", roots=(google_2022(),), images={})
    if name == "local":
        return Policy(name=name, tier=SIMULATED_TIERS[name], roots=(), images={})
    if name == "qemu":
        from aicert.trust.ovmf import BUILDS

        firmware = tuple(BUILDS.values())
        return Policy(name=name, tier=SIMULATED_TIERS[name], roots=(), images={}, firmware=firmware)
    raise ConfigError(f"there is no built-in policy {name!r}, only {', '.join(BUILT_IN)}")


def with_root(policy: Policy, pem: bytes, what: str) -> Policy:
    """Return `policy` accepting the simulated platforms of one more root, which the caller trusts.

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
            f"{what} certifies simulated:{driver} platforms, but policy {policy.name} requires "
            f"simulated:{policy.name}",
            hint=f"--policy {driver}",
        )
    root = Root(name=f"simulated:{driver}", der=der, tier=SIMULATED_TIERS[driver], simulated=driver)
    return replace(policy, roots=(*policy.roots, root))


def with_image(policy: Policy, image: "ImageLock") -> Policy:
    """Return `policy` accepting one more machine image, whose lock the caller holds."""
    return replace(
        policy,
        accepted=policy.accepted | {image.digest},
        images={**policy.images, image.digest: image},
    )


def require_roots(policy: Policy) -> Policy:
    """Return `policy` if it names a root; raise ConfigError if nothing could ever chain to one."""
    if policy.roots:
        return policy
    hint = "--root PEM"
    if policy.name in SIMULATED_TIERS:
        hint += f": the maker's checkout has it at .aicert/ca/{policy.name}.pem"
    raise ConfigError(f"policy {policy.name} names no platform root", hint=hint)


def root_from_certificate(
    name: str,
    der: bytes,
    tier: str,
    *,
    needs_eku: bool,
    subjects: tuple[str, ...],
    intermediates: tuple[bytes, ...] = (),
    eku: str = EKU_AK,
) -> Root:
    """Return a root for a policy file; whether it is simulated follows from its own extension."""
    driver = simulated_driver(load(der, f"root {name}"))
    for one in intermediates:
        load(one, f"an intermediate of root {name}")
    return Root(
        name=name,
        der=der,
        tier=tier,
        simulated=driver,
        needs_eku=needs_eku,
        eku=eku,
        subjects=subjects,
        intermediates=intermediates,
    )


def describe(policy: Policy) -> str:
    """Describe a policy in one line: its name, the tier that it requires, the roots that it
    accepts.
    """
    roots = ", ".join(root.name for root in policy.roots)
    return f"policy {policy.name}: tier {policy.tier} or better, roots {roots}"
