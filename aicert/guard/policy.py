"""The guard's policy file: whose signatures and certificates count for what is loaded.

Strict TOML, paths relative to the file (docs/spec/guard.md). Nothing in it leaves a file out:
`ignore` and `ignore-unsigned` are refused by name.
"""

import os
import tomllib
from typing import Literal, cast

from aicert.errors import AicertError, ConfigError
from aicert.files.bounded import StrPath, read_bounded
from aicert.formats.fields import Table
from aicert.frozen import dataclass

MAX_POLICY = 1 << 16
MAX_SIGNERS = 64
Unsigned = Literal["refuse", "warn", "allow"]
UNSIGNED = ("refuse", "warn", "allow")
_FORBIDDEN = ("ignore", "ignore-unsigned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Someone who may sign, identified by a public key, by the CAs of a certificate, or by an
    identity.
    """

    key: str = ""
    roots: tuple[str, ...] = ()
    identity: str = ""
    issuer: str = ""
    trusted_root: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """The options for `aicert verify` of certificates."""

    policy: str
    root: str = ""
    lockfile: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """The key that signs what a training saves; `password_env` names the password's variable."""

    key: str
    password_env: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPolicy:
    """What may be loaded, and who signs what is saved.

    `certificates` is None if certificates do not count, and `signing` if nothing is to be signed.
    """

    path: str
    unsigned: Unsigned
    signers: tuple[Signer, ...]
    certificates: Certificates | None
    signing: Signing | None = None


class _Table(Table):
    __slots__ = ("_folder",)
    error = ConfigError
    between = ": "

    def __init__(self, value: object, where: str, folder: str) -> None:
        super().__init__(value, where)
        self._folder = folder

    def place(self, key: str) -> str:
        """Take a path as an absolute path; empty if the key is absent."""
        text = self.take(key, str, "")
        return os.path.join(self._folder, text) if text else ""

    def places(self, key: str) -> tuple[str, ...]:
        texts = self.texts(key, MAX_SIGNERS) if self.has(key) else ()
        return tuple(os.path.join(self._folder, text) for text in texts)


def load_policy(path: StrPath) -> GuardPolicy:
    """Read a guard's policy file."""
    place = os.path.abspath(path)
    where, folder = os.fspath(path), os.path.dirname(place)
    table = _Table(_parse(place, where), where, folder)
    for key in _FORBIDDEN:
        if table.has(key):
            raise ConfigError(f"{where}: a guard checks every file, so {key} has no place in it")
    unsigned = table.take("unsigned", str, "refuse")
    if unsigned not in UNSIGNED:
        raise ConfigError(f"{where}: unsigned is {unsigned[:40]!a}, not {', '.join(UNSIGNED)}")
    sections = table.tables("signer", MAX_SIGNERS, "expected [[signer]] tables")
    signers = tuple(_signer(item, f"{where}: signer", folder) for item in sections)
    has = table.has("certificate")
    judged = _certificates(table.take("certificate", dict, {}), where, folder) if has else None
    signing = _signing(table.take("sign", dict), where, folder) if table.has("sign") else None
    table.done()
    if not signers and judged is None:
        raise ConfigError(f"{where}: it names neither a [[signer]] nor a [certificate]")
    return GuardPolicy(
        path=place,
        unsigned=cast("Unsigned", unsigned),
        signers=signers,
        certificates=judged,
        signing=signing,
    )


def _parse(place: str, where: str) -> dict[str, object]:
    try:
        return tomllib.loads(read_bounded(place, MAX_POLICY, "guard policy").decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{where}: not TOML: {error}") from None
    except AicertError as error:
        raise ConfigError(error.message, hint="aicert guard --policy guard.toml -- CMD") from None


def _signer(item: object, where: str, folder: str) -> Signer:
    table = _Table(item, where, folder)
    signer = Signer(
        key=table.place("key"),
        roots=table.places("certificate-chain"),
        identity=table.take("identity", str, ""),
        issuer=table.take("issuer", str, ""),
        trusted_root=table.place("trusted-root"),
    )
    table.done()
    if sum((bool(signer.key), bool(signer.roots), bool(signer.identity))) != 1:
        raise ConfigError(f"{where}: name one: key, certificate-chain or identity")
    # In Sigstore's policy, an empty issuer means any issuer.
    if bool(signer.identity) != bool(signer.issuer):
        raise ConfigError(f"{where}: identity and issuer go together")
    if signer.trusted_root and not signer.identity:
        raise ConfigError(f"{where}: trusted-root goes with identity")
    for place in (signer.key, *signer.roots, signer.trusted_root):
        if place and not os.path.isfile(place):
            raise ConfigError(f"{where}: there is no file {place!a}")
    return signer


def _signing(item: object, where: str, folder: str) -> Signing:
    table = _Table(item, f"{where}: sign", folder)
    signing = Signing(key=table.place("key"), password_env=table.take("password-env", str, ""))
    table.done()
    if not os.path.isfile(signing.key):
        raise ConfigError(f"{where}: sign: there is no key {signing.key!a}")
    return signing


def _certificates(item: object, where: str, folder: str) -> Certificates:
    from aicert.trust.built_in import BUILT_IN
    from aicert.verifier.verify import choose_policy, expected_lockfile

    table = _Table(item, f"{where}: certificate", folder)
    policy, lockfile = table.take("policy", str, "default"), table.take("lockfile", str, "")
    root, evidence = table.place("root"), table.place("evidence")
    table.done()
    if policy not in BUILT_IN:
        policy = os.path.join(folder, policy)
    if lockfile and not lockfile.startswith("sha256:"):
        lockfile = os.path.join(folder, lockfile)
    if evidence and not os.path.isdir(evidence):
        raise ConfigError(f"{where}: certificate: there is no folder {evidence!a}")
    # So that errors in the policy show now, and not at the first load.
    choose_policy(policy, root=root or None)
    expected_lockfile(lockfile or None)
    return Certificates(policy=policy, root=root, lockfile=lockfile, evidence=evidence)
