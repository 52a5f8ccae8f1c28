"""The machine images whose certificates this project accepts: `lockfiles/images.policy.toml`.

This is a reviewed list of image lock digests, in the format of a policy file (docs/spec/policy.md).
An image stays accepted when the image's lock changes, until it is revoked by digest with a reason.
The list is only for the repository's owners: `aicert verify` never reads it, and `./doit review
--check` reads the one in the base revision.
"""

import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aicert.appraisal.policy import Policy
from aicert.errors import ConfigError
from aicert.formats.digest import Digest
from aicert.frozen import replace
from aicert.trust.policy_file import load_policy

LIST: Final = Path("lockfiles") / "images.policy.toml"
_KEYS: Final = {"name", "tier", "images"}
_IMAGE_KEYS: Final = {"accepted", "revoked", "reasons"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Digests of image locks: accepted ones, and revoked ones with their reasons."""

    accepted: frozenset[Digest] = frozenset()
    revoked: Mapping[Digest, str] = field(default_factory=dict)

    def added_to(self, policy: Policy) -> Policy:
        """Return `policy` with this list's images added."""
        return replace(
            policy,
            accepted=policy.accepted | self.accepted,
            revoked=policy.revoked | frozenset(self.revoked),
            reasons={**policy.reasons, **self.revoked},
        )


def read(root: Path) -> Images:
    """Return the list of a checkout; empty if there is no file. Raises ConfigError if it is
    wrong.
    """
    path = root / LIST
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return Images()
    except OSError as error:
        raise ConfigError(f"cannot read {LIST}: {error.strerror}") from None


def parse(data: bytes) -> Images:
    """Parse the list. Raises ConfigError."""
    with tempfile.TemporaryDirectory(prefix="aicert-images-") as folder:
        # A policy may refer to files next to it; this list may not.
        path = Path(folder) / LIST.name
        path.write_bytes(data)
        try:
            policy = load_policy(str(path))
        except ConfigError as error:
            raise ConfigError(error.message.replace(str(path), str(LIST))) from None
    table = tomllib.loads(data.decode("utf-8"))
    odd = sorted((table.keys() - _KEYS) | (table.get("images", {}).keys() - _IMAGE_KEYS))
    if odd:
        raise ConfigError(
            f"{LIST}: {odd[0]!r} is not allowed: this file only lists images",
            hint="put it into a policy file of your own, for `aicert verify --policy FILE`",
        )
    unexplained = sorted(str(digest) for digest in policy.revoked - policy.reasons.keys())
    if unexplained:
        raise ConfigError(
            f"{LIST}: image {unexplained[0]} is revoked without a reason",
            hint=f'add to [images.reasons]: "{unexplained[0]}" = "why"',
        )
    return Images(accepted=policy.accepted, revoked=dict(policy.reasons))
