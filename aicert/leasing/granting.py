"""Issue a licence to an enrolled machine, and the blob that the licence opens.

A licence bounds the meter from its reading at the enrolment on, in ticks, and the TPM's clock,
which only runs while the machine has power. It names the registers of the image and firmware that
were enrolled.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aicert.errors import ConfigError
from aicert.formats.tpm import sha256_name
from aicert.frozen import dataclass
from aicert.lease import blob, keys, licence
from aicert.lease.blob import Blob
from aicert.lease.custody import Secrets
from aicert.lease.licence import MAX_BOOTS, MAX_COUNT, Bounds, Licence
from aicert.lease.terms import TPM_ALONE, Terms
from aicert.leasing.enrolments import Enrolled

_UNITS: Final[Mapping[str, int]] = MappingProxyType(
    {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
)
_SECONDS: Final[Mapping[str, int]] = MappingProxyType({"m": 60, "h": 3600, "d": 86_400})
# More tokens or seconds than this are a typing mistake.
MAX_TOKENS: Final = 10**15
MAX_SECONDS: Final = 10 * 366 * 86_400
MAX_MORE_BOOTS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What the borrower gets. `ticks`: by how much the meter may still rise."""

    licence: Licence
    blob: Blob
    ticks: int


def tokens(text: str) -> int:
    """Parse a number of tokens: `5M`, `500k`, `2G` or a plain number."""
    unit = text[-1:] if text[-1:] in _UNITS else ""
    number = text.removesuffix(unit) if unit else text
    if not number.isascii() or not number.isdigit() or len(number) > 15:
        raise ConfigError(f"not a number of tokens: {text[:40]!a}", hint="--budget 5M")
    count = int(number) * _UNITS[unit]
    if not 1 <= count <= MAX_TOKENS:
        raise ConfigError(f"a budget is from 1 to {MAX_TOKENS} tokens", hint="--budget 5M")
    return count


def seconds(text: str) -> int:
    """Parse a duration, such as `30d`, `12h` or `90m`, and return it in seconds."""
    number, unit = text[:-1], text[-1:]
    if not number.isascii() or not number.isdigit() or len(number) > 9 or unit not in _SECONDS:
        raise ConfigError(f"not a duration: {text[:40]!a}", hint="--until 30d")
    count = int(number) * _SECONDS[unit]
    if not 1 <= count <= MAX_SECONDS:
        raise ConfigError("a lease is issued for a minute to ten years", hint="--until 30d")
    return count


def issue(
    kept: Secrets,
    terms: Terms,
    machine: Enrolled,
    *,
    budget: int,
    duration: int,
    boots: int,
    is_offline: bool,
) -> Issued:
    """Issue a licence for `budget` tokens and `duration` seconds from the enrolment on.

    It is valid in the boot that was enrolled and `boots` more. The blob is wrapped anew.
    """
    require_own(kept, terms)
    if terms.key == TPM_ALONE and not is_offline:
        raise ConfigError("the lease is for offline machines", hint="aicert lease issue --offline")
    if is_offline and terms.key != TPM_ALONE:
        raise ConfigError(
            "half of the key comes from a broker, so this lease cannot run offline",
            hint="aicert lease pack --offline",
        )
    ticks = budget // terms.tick_tokens
    if not ticks:
        raise ConfigError(
            f"the budget is less than one tick of {terms.tick_tokens} tokens",
            hint=f"--budget {terms.tick_tokens}",
        )
    clock = machine.meter.clock
    bounds = Bounds(
        budget=_bounded(machine.meter.value + ticks, MAX_COUNT),
        epoch=machine.epoch.value,
        clock=_bounded(clock.clock + 1000 * duration, MAX_COUNT),
        resets=_bounded(clock.reset_count + boots, MAX_BOOTS),
        # The registers of a resumed TPM are not those of a boot.
        restarts=0,
    )
    issued = licensed(kept, terms, machine, bounds)
    wrapped = wrap(kept, terms, machine)
    return Issued(licence=issued, blob=wrapped, ticks=ticks)


def licensed(kept: Secrets, terms: Terms, machine: Enrolled, bounds: Bounds) -> Licence:
    """Issue a licence with these bounds, for the image and firmware that were enrolled."""
    return licence.issue(
        kept.key,
        lease=terms.lease,
        terms=terms.digest,
        machine=sha256_name(machine.storage_public),
        image=machine.image,
        firmware=machine.firmware,
        bounds=bounds,
    )


def wrap(kept: Secrets, terms: Terms, machine: Enrolled) -> Blob:
    """Wrap the TPM's half of the key for this machine's TPM alone."""
    name = sha256_name(machine.storage_public)
    policy = licence.sealed_policy(kept.key.public_key(), terms.lease, terms.digest, name)
    return blob.wrap(kept.tpm_half, policy, machine.storage_public)


def require_own(kept: Secrets, terms: Terms) -> None:
    """Raise ConfigError if keys and terms belong to different leases."""
    if (kept.lease, keys.spki_digest(kept.key.public_key())) != (terms.lease, terms.custodian):
        raise ConfigError(
            "the keys and the terms are for different leases",
            hint="move the keys of this lease beside its folder: LEASE.keys belongs to LEASE/",
        )


def _bounded(count: int, most: int) -> int:
    if count > most:
        raise ConfigError("the machine's counters leave no room for this licence")
    return count
