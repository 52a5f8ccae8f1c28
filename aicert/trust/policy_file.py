"""Read policy files: strict TOML (docs/spec/policy.md has an example with every key).

Unknown keys are errors that name the key, the file and the nearest valid one. A file may extend a
built-in policy or another file: lists are added to, single values replaced, and so are the minimum
versions for one maker's processors and guests. Paths are relative to the file. Raises ConfigError
only. Left out: anything that would skip a check.
"""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date

from aicert.appraisal.ak_chain import EKU_AK, Root
from aicert.appraisal.evidence.accepted import (
    ChipRoot,
    GpuRoot,
    IdKeySigner,
    Td,
    TdRoot,
    TimeAuthority,
)
from aicert.appraisal.policy import FIRMWARE_PCRS, Firmware, Policy
from aicert.appraisal.result import TIERS
from aicert.crypto.x509 import load
from aicert.errors import AicertError, ConfigError
from aicert.formats import image_lock
from aicert.formats.digest import Digest, is_hex, of_bytes
from aicert.formats.lockfile import CODE_WORDS
from aicert.frozen import replace
from aicert.trust.built_in import BUILT_IN, built_in, root_from_certificate
from aicert.trust.policy_demands import (
    audit,
    claim,
    compute,
    day,
    evaluation,
    log,
    quorum,
    witness,
)
from aicert.trust.policy_table import MAX_POLICY, PolicyTable
from aicert.trust.roots import (
    CHIP_FAMILIES,
    INTEL_TDX,
    MAX_PEM,
    NVIDIA,
    chip_root,
    intel_tdx,
    nvidia,
    pem_to_der,
)

# `tomllib` takes quadratic time for the parts of a dotted key; no key of a policy has any.
MAX_DOTS = 64
# The longest chain of policies that makes sense, such as company, team, model; deeper ones are a
# loop or a mistake.
MAX_EXTENDS = 8
SHA384_BYTES = 48
# Intel's words for firmware that a policy may accept; no policy can accept revoked firmware.
TDX_STATUSES = frozenset(
    (
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    )
)
# Evidence that a policy may require, though not every certificate has it; and the table that it
# needs.
REQUIRABLE = {"time": "time-authority", "log": "log"}


def load_policy(path: str, *, depth: int = 0) -> Policy:
    """Read a policy file and all that it extends."""
    if depth > MAX_EXTENDS:
        raise ConfigError(f"{path}: more than {MAX_EXTENDS} policies extend one another")
    table = PolicyTable(_parse(path), path, "policy")
    name = table.text("name", os.path.splitext(os.path.basename(path))[0])
    base = _base(table, path, depth)
    tier = table.text("tier", base.tier if base else "")
    if tier not in TIERS:
        hint = None if tier else 'extends = "default", or a tier of its own'
        raise ConfigError(f"{path}: tier is {tier!r}, not one of {', '.join(TIERS)}", hint=hint)
    roots = tuple(_root(item, path) for item in table.sections("root"))
    roots = _with_intermediates(
        (*(base.roots if base else ()), *roots), table.sections("intermediate"), path
    )
    images = PolicyTable(table.table("images"), path, "images")
    accepted, held = _images(images, path)
    revoked = frozenset(_digest(text, path) for text in images.texts("revoked"))
    given = images.table("reasons")
    images.done()
    reasons = _reasons(given, revoked, path)
    firmware = tuple(_firmware(item, path) for item in table.sections("firmware"))
    chips = tuple(_chip(item, path) for item in table.sections("chip"))
    id_key_signers = tuple(_id_key_signer(item, path) for item in table.sections("launch"))
    td_roots = tuple(_td_root(item, path) for item in table.sections("tdx"))
    tds = tuple(_td(item, path) for item in table.sections("td"))
    gpus = tuple(_gpu(item, path) for item in table.sections("gpu"))
    claims = tuple(claim(item, path) for item in table.sections("claim"))
    audits = tuple(audit(item, path) for item in table.sections("audit"))
    evaluations = tuple(evaluation(item, path) for item in table.sections("evaluation"))
    authorities = tuple(_time_authority(item, path) for item in table.sections("time-authority"))
    own_compute = table.table("compute") if table.has("compute") else None
    authorities = (*(base.time_authorities if base else ()), *authorities)
    logs = (*(base.logs if base else ()), *(log(item, path) for item in table.sections("log")))
    witnesses = tuple(witness(item, path) for item in table.sections("witness"))
    witnesses = (*(base.witnesses if base else ()), *witnesses)
    enough = quorum(table, path, witnesses, base.quorum if base else 0)
    require = _required(table, path, {"time": authorities, "log": logs})
    days = table.integer("max-age-days")
    allow = frozenset(table.texts("allow"))
    table.done()
    unknown = sorted(allow.difference(CODE_WORDS))
    if unknown:
        words = " or ".join(CODE_WORDS)
        raise ConfigError(f"{path}: allow: {unknown[0][:80]!r} is not {words}")
    if days is not None and days < 1:
        raise ConfigError(f"{path}: max-age-days is {days}, but must be 1 or more")
    return Policy(
        name=name,
        tier=tier,
        roots=roots,
        accepted=accepted | (base.accepted if base else frozenset()),
        revoked=revoked | (base.revoked if base else frozenset()),
        reasons={**(base.reasons if base else {}), **reasons},
        images={**(base.images if base else {}), **held},
        firmware=(*(base.firmware if base else ()), *firmware),
        chips=_instead_of_chips(base.chips if base else (), chips),
        id_key_signers=_instead_of_signers(base.id_key_signers if base else (), id_key_signers),
        td_roots=_instead_of_td_roots(base.td_roots if base else (), td_roots),
        tds=_instead_of_tds(base.tds if base else (), tds),
        gpus=_instead_of_gpus(base.gpus if base else (), gpus),
        claims=(*(base.claims if base else ()), *claims),
        audits=(*(base.audits if base else ()), *audits),
        evaluations=(*(base.evaluations if base else ()), *evaluations),
        compute=(
            compute(own_compute, path)
            if own_compute is not None
            else (base.compute if base else None)
        ),
        max_age_days=days if days is not None or base is None else base.max_age_days,
        allow=allow | (base.allow if base else frozenset()),
        time_authorities=authorities,
        logs=logs,
        witnesses=witnesses,
        quorum=enough,
        require=require | (base.require if base else frozenset()),
    )


def _instead_of_chips(
    extended: tuple[ChipRoot, ...], own: tuple[ChipRoot, ...]
) -> tuple[ChipRoot, ...]:
    """Return both lists; an entry of `own` replaces the one with the same issuer."""
    issuers = {one.issuer for one in own}
    return (*(one for one in extended if one.issuer not in issuers), *own)


def _instead_of_signers(
    extended: tuple[IdKeySigner, ...], own: tuple[IdKeySigner, ...]
) -> tuple[IdKeySigner, ...]:
    """Return both lists; an entry of `own` replaces those with the same key on the same
    processors.
    """
    kept = [
        before
        for before in extended
        if not any(
            one.id_key == before.id_key
            and (one.chip == before.chip or not one.chip or not before.chip)
            for one in own
        )
    ]
    return (*kept, *own)


def _instead_of_td_roots(
    extended: tuple[TdRoot, ...], own: tuple[TdRoot, ...]
) -> tuple[TdRoot, ...]:
    """Return both lists; an entry of `own` replaces the one with the same certificate."""
    roots = {one.root for one in own}
    return (*(one for one in extended if one.root not in roots), *own)


def _instead_of_tds(extended: tuple[Td, ...], own: tuple[Td, ...]) -> tuple[Td, ...]:
    """Return both lists; an entry of `own` replaces the one with equal MRTD and registers."""
    built = {(one.mrtd, one.rtmrs) for one in own}
    return (*(one for one in extended if (one.mrtd, one.rtmrs) not in built), *own)


def _instead_of_gpus(
    extended: tuple[GpuRoot, ...], own: tuple[GpuRoot, ...]
) -> tuple[GpuRoot, ...]:
    """Return both lists; an entry of `own` replaces the one with the same certificate."""
    roots = {one.root for one in own}
    return (*(one for one in extended if one.root not in roots), *own)


def _parse(path: str) -> Mapping[str, object]:
    data = _read(path, MAX_POLICY, path)
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.count(b".") > MAX_DOTS:
            raise ConfigError(f"{path}: line {number} has more than {MAX_DOTS} dots")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        # ValueError: TOMLDecodeError, and integers of more than 4,300 digits.
        raise ConfigError(f"{path} is not TOML: {error}") from None


def _read(path: str, limit: int, where: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        # ValueError: a path with NUL in it.
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{where}: cannot read {path}: {reason}") from None
    if len(data) > limit:
        raise ConfigError(f"{where}: {path} is larger than {limit} bytes")
    return data


def _base(table: PolicyTable, path: str, depth: int) -> Policy | None:
    extends = table.text("extends", "")
    if not extends:
        return None
    if extends in BUILT_IN:
        return built_in(extends)
    return load_policy(_beside(path, extends), depth=depth + 1)


def _beside(path: str, name: str) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(path)), name)


def _root(item: object, path: str) -> Root:
    table = PolicyTable(item, path, "root")
    name, pem = table.text("name"), table.text("certificate")
    fingerprint, tier = table.text("sha256"), table.text("tier")
    needed = table.text("ak-purpose", "required")
    eku = table.text("ak-eku", EKU_AK)
    subjects, pinned = table.texts("subject-suffixes"), table.texts("intermediates")
    table.done()
    if needed not in ("required", "if-present"):
        raise ConfigError(
            f"{path}: root {name}: ak-purpose is {needed!r}, not required or if-present"
        )
    if not re.fullmatch(r"[0-2](\.(0|[1-9][0-9]{0,18})){1,20}", eku):
        raise ConfigError(f"{path}: root {name}: ak-eku is {eku[:80]!r}, not an object identifier")
    try:
        der = _certificate(path, f"root {name}", pem, fingerprint)
        return root_from_certificate(
            name,
            der,
            tier,
            needs_eku=needed == "required",
            eku=eku,
            subjects=tuple(subjects),
            intermediates=_pinned(path, pinned),
        )
    except ConfigError:
        raise
    except AicertError as error:
        raise ConfigError(f"{path}: root {name}: {error.message}") from None


def _required(
    table: PolicyTable, path: str, named: Mapping[str, tuple[object, ...]]
) -> frozenset[str]:
    require = frozenset(table.texts("require"))
    unknown = sorted(require.difference(REQUIRABLE))
    if unknown:
        raise ConfigError(f"{path}: require: {unknown[0][:80]!r} is not {' or '.join(REQUIRABLE)}")
    for word, kind in REQUIRABLE.items():
        if word in require and not named[word]:
            raise ConfigError(f"{path}: require: {word}, but there is no [[{kind}]]")
    return require


def _time_authority(item: object, path: str) -> TimeAuthority:
    table = PolicyTable(item, path, "time-authority")
    name, pem = table.text("name"), table.text("certificate")
    fingerprint, pinned = table.text("sha256"), table.texts("intermediates")
    table.done()
    what = f"time-authority {name}"
    try:
        root, intermediates = _certificate(path, what, pem, fingerprint), _pinned(path, pinned)
        for number, der in enumerate((root, *intermediates)):
            load(der, pem if not number else pinned[number - 1])
    except ConfigError:
        raise
    except AicertError as error:
        raise ConfigError(f"{path}: {what}: {error.message}") from None
    return TimeAuthority(name=name, root=root, intermediates=intermediates)


def _pinned(path: str, files: Sequence[str]) -> tuple[bytes, ...]:
    """Return the DER of certificates that a policy file names without a fingerprint."""
    return tuple(pem_to_der(_read(_beside(path, file), MAX_PEM, path), file) for file in files)


def _with_intermediates(
    roots: tuple[Root, ...], tables: list[object], path: str
) -> tuple[Root, ...]:
    """Return the roots, each with the intermediates that [[intermediate]] tables add to it."""
    for item in tables:
        table = PolicyTable(item, path, "intermediate")
        name, pem = table.text("root"), table.text("certificate")
        table.done()
        if name not in (root.name for root in roots):
            known = ", ".join(root.name for root in roots)
            raise ConfigError(f"{path}: intermediate: no root is named {name[:80]!r}: {known}")
        try:
            der = pem_to_der(_read(_beside(path, pem), MAX_PEM, path), pem)
            load(der, pem)
        except ConfigError:
            raise
        except AicertError as error:
            raise ConfigError(f"{path}: intermediate: {error.message}") from None
        roots = tuple(
            replace(root, intermediates=(*root.intermediates, der)) if root.name == name else root
            for root in roots
        )
    return roots


def _certificate(path: str, what: str, pem: str, fingerprint: str) -> bytes:
    """Return the DER of a certificate that a policy file names, and check its fingerprint."""
    der = pem_to_der(_read(_beside(path, pem), MAX_PEM, path), pem)
    if of_bytes(der).hex != fingerprint:
        raise ConfigError(
            f"{path}: {what} has a different fingerprint\n"
            f"expected  {fingerprint[:80]}\nfound     {of_bytes(der).hex}"
        )
    return der


def _chip(item: object, path: str) -> ChipRoot:
    """Read a [[chip]]: a maker's root that the file brings, or a pinned one by its name."""
    from aicert.appraisal.evidence.amd_vcek import COMPONENTS, issuers

    table = PolicyTable(item, path, "chip")
    name = table.text("name")
    key = table.text("key", "vcek")
    if key not in ("vcek", "vlek"):
        raise ConfigError(f"{path}: chip {name}: key is {key[:80]!r}, not vcek or vlek")
    pems = [table.text(f"{part}", "") for part in ("root", "issuer")]
    prints = [table.text(f"{part}-sha256", "") for part in ("root", "issuer")]
    tcb = PolicyTable(table.table("minimum-tcb"), path, f"chip {name}: minimum-tcb")
    minimum = {component: tcb.integer(component) for component in COMPONENTS}
    tcb.done()
    table.done()
    least = {component: number for component, number in minimum.items() if number is not None}
    if len(least) != len(COMPONENTS):
        raise ConfigError(f"{path}: chip {name}: minimum-tcb needs {', '.join(COMPONENTS)}")
    if not any(pems + prints) and name in CHIP_FAMILIES and key == "vcek":
        return chip_root(name, least)
    if not all(pems + prints):
        raise ConfigError(
            f"{path}: chip {name}: expected root, root-sha256, issuer and issuer-sha256; "
            f"without them only {', '.join(CHIP_FAMILIES)} are known"
        )
    try:
        root, issuer = (
            _certificate(path, f"chip {name}", pem, fingerprint)
            for pem, fingerprint in zip(pems, prints, strict=True)
        )
        judged = ChipRoot(name=name, root=root, issuer=issuer, minimum=least, vlek=key == "vlek")
        issuers(judged)
    except ConfigError:
        raise
    except AicertError as error:
        raise ConfigError(f"{path}: chip {name}: {error.message}") from None
    return judged


def _id_key_signer(item: object, path: str) -> IdKeySigner:
    table = PolicyTable(item, path, "launch")
    name, digest = table.text("name"), table.text("id-key")
    svn = table.integer("minimum-svn") or 0
    chip, until = table.text("chip", ""), _until(table, f"{path}: launch {name}")
    table.done()
    try:
        id_key = bytes.fromhex(digest)
    except ValueError:
        id_key = b""
    # A processor reports all zeros if nobody signed.
    if len(id_key) != SHA384_BYTES or not any(id_key) or id_key.hex() != digest:
        raise ConfigError(f"{path}: launch {name}: id-key is not 96 hexadecimal digits")
    return IdKeySigner(name=name, id_key=id_key, minimum_svn=svn, chip=chip, until=until)


def _until(table: PolicyTable, where: str) -> date | None:
    """Return the last day of `until`, None if there is none."""
    last = table.text("until", "")
    until = day(last) if last else None
    if last and until is None:
        raise ConfigError(f"{where}: until is {last[:80]!r}, not a date such as 2026-12-31")
    return until


def _td_root(item: object, path: str) -> TdRoot:
    """Read a [[tdx]]: a maker's root that the file brings, or the pinned one by its name."""
    table = PolicyTable(item, path, "tdx")
    name, statuses = table.text("name"), frozenset(table.texts("statuses"))
    pem, fingerprint = table.text("root", ""), table.text("root-sha256", "")
    evaluation = table.integer("minimum-evaluation") or 0
    table.done()
    unknown = sorted(statuses - TDX_STATUSES)
    if not statuses or unknown:
        raise ConfigError(
            f"{path}: tdx {name}: statuses are not some of {', '.join(sorted(TDX_STATUSES))}"
        )
    if name == INTEL_TDX and not pem and not fingerprint:
        return intel_tdx(statuses, evaluation)
    if not pem or not fingerprint:
        raise ConfigError(
            f"{path}: tdx {name}: expected root and root-sha256; without them only {INTEL_TDX} "
            "is known"
        )
    try:
        root = _certificate(path, f"tdx {name}", pem, fingerprint)
        load(root, f"tdx {name}")
    except ConfigError:
        raise
    except AicertError as error:
        raise ConfigError(f"{path}: tdx {name}: {error.message}") from None
    return TdRoot(name=name, root=root, statuses=statuses, minimum_evaluation=evaluation)


def _td(item: object, path: str) -> Td:
    table = PolicyTable(item, path, "td")
    name = table.text("name")
    registers = []
    for key in ("mrtd", *(f"rtmr{index}" for index in range(4))):
        text = table.text(key, *(() if key == "mrtd" else (bytes(SHA384_BYTES).hex(),)))
        try:
            value = bytes.fromhex(text)
        except ValueError:
            value = b""
        if len(value) != SHA384_BYTES or value.hex() != text:
            raise ConfigError(f"{path}: td {name}: {key} is not 96 hexadecimal digits")
        registers.append(value)
    until = _until(table, f"{path}: td {name}")
    table.done()
    return Td(name=name, mrtd=registers[0], rtmrs=tuple(registers[1:]), until=until)


def _gpu(item: object, path: str) -> GpuRoot:
    """Read a [[gpu]]: a maker's two roots that the file brings, or the pinned ones by
    their name.
    """
    table = PolicyTable(item, path, "gpu")
    name = table.text("name")
    drivers, vbios = frozenset(table.texts("drivers")), frozenset(table.texts("vbios"))
    pems = [table.text(key, "") for key in ("root", "rim-root")]
    prints = [table.text(f"{key}-sha256", "") for key in ("root", "rim-root")]
    table.done()
    if name == NVIDIA and not any(pems + prints):
        return nvidia(drivers, vbios)
    if not all(pems + prints):
        raise ConfigError(
            f"{path}: gpu {name}: expected root, root-sha256, rim-root and rim-root-sha256; "
            f"without them only {NVIDIA} is known"
        )
    try:
        root, rim_root = (
            _certificate(path, f"gpu {name}", pem, fingerprint)
            for pem, fingerprint in zip(pems, prints, strict=True)
        )
        load(root, f"gpu {name}")
        load(rim_root, f"gpu {name}")
    except ConfigError:
        raise
    except AicertError as error:
        raise ConfigError(f"{path}: gpu {name}: {error.message}") from None
    return GpuRoot(name=name, root=root, rim_root=rim_root, drivers=drivers, vbios=vbios)


def _images(
    table: PolicyTable, path: str
) -> tuple[frozenset[Digest], dict[Digest, image_lock.ImageLock]]:
    """Read [images]: the accepted digests, and the locks of some of them, by digest.

    Only `accepted` decides; `locks` are files with the values of accepted digests.
    """
    accepted = frozenset(_digest(text, path) for text in table.texts("accepted"))
    held = {}
    for name in table.texts("locks"):
        try:
            lock = image_lock.parse(_read(_beside(path, name), image_lock.MAX_BYTES, path))
        except ConfigError:
            raise
        except AicertError as error:
            raise ConfigError(f"{path}: {name}: {error.message}") from None
        if lock.digest not in accepted:
            raise ConfigError(f"{path}: {name} is {lock.digest}, which is not in `accepted`")
        held[lock.digest] = lock
    return accepted, held


def _reasons(
    given: Mapping[str, object], revoked: frozenset[Digest], path: str
) -> dict[Digest, str]:
    """Read why images are revoked.

    A reason for an image that is not revoked is refused: it would be read as if the image were.
    """
    reasons = {}
    for text, reason in given.items():
        digest = _digest(text, path)
        if digest not in revoked:
            raise ConfigError(f"{path}: images: reasons: {digest} is not in `revoked`")
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigError(f"{path}: images: reasons: {digest}: expected a string")
        reasons[digest] = reason
    return reasons


def _firmware(item: object, path: str) -> Firmware:
    table = PolicyTable(item, path, "firmware")
    name, family = table.text("name"), table.text("family", "")
    pcrs = {}
    for index in FIRMWARE_PCRS:
        text = table.text(f"pcr{index}")
        if not is_hex(text):
            raise ConfigError(f"{path}: firmware {name}: pcr{index} is not 64 hexadecimal digits")
        pcrs[index] = bytes.fromhex(text)
    table.done()
    return Firmware(name=name, family=family, pcrs=pcrs)


def _digest(text: str, path: str) -> Digest:
    try:
        digest = Digest.parse(text)
    except AicertError as error:
        raise ConfigError(f"{path}: images: {error.message}") from None
    if digest.kind != "sha256":
        raise ConfigError(f"{path}: images: an image lock is a file, {digest} is a directory's")
    return digest
