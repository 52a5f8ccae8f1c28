"""Write the corpus of test vectors: one file per row of the attack table and of the honest table.

    python -m tests.vectors.generate        # then: git diff --exit-code tests/vectors

Deterministic: keys follow from their names, signatures from keys and data. A file is only written
where its bytes changed; files of rows that are gone are removed. The format is in README.md.
What a row expects is checked against the verifier in test_vectors.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from aicert.appraisal.ak_chain import EKU_AK, Root
from aicert.appraisal.evidence.accepted import CAPS, ComputeDemand, EvaluationDemand
from aicert.appraisal.policy import Policy
from aicert.crypto.x509 import stamp
from aicert.formats import certificate as certificates
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest
from aicert.formats.evaluated_tasks import BY_DIGEST
from tests.adversarial import attacks_log, ca_forge
from tests.adversarial.attacks import MALFORMED, Attack, table
from tests.adversarial.elsewhere import ELSEWHERE
from tests.adversarial.forger import TDS, Scene
from tests.adversarial.honest import HONEST, Honest
from tests.vectors import reading

FOLDER = Path(__file__).resolve().parent
# Version 2: pieces may come from another scenario's certificate.
FORMAT = 1
WITH_COPIES = 2
# Version 3: audits are given too.
WITH_AUDITS = 3
# The version of PROTOCOL.md, which defines how a verifier is called.
PROTOCOL = 2
INDEX = "index.json"
IN_A_LOG = "in a log"
EVALUATION = "an evaluation"
# A run of at most 16 octets, repeated 64 times or more: otherwise the largest attacks would take 45
# MB. Only certificates much larger than others are searched for such runs; the others stay
# readable.
LARGE = 50_000
_RUN = re.compile(rb"(.{1,16}?)\1{63,}", re.DOTALL)
# A training with an audit beside it, and an audit: other rows name what they share with these.
AUDITED, AUDIT = "audited", "audit that a policy demands, judged itself"
# The same of evaluations.
EVALUATED, ITSELF = "evaluated", "evaluation that a policy demands, judged itself"
# The shortest piece that is worth sharing.
SHARED = 32
EXIT_CODES = {"passed": 0, "failed": 1, "none": 2, MALFORMED: 2}


def corpus() -> Iterator[tuple[str, bytes]]:
    """Return every file of the corpus: bytes by path below this folder."""
    rows: tuple[Attack | Honest, ...] = (*table(), *HONEST)
    # A trust domain or a GPU carries its maker's collateral of 30 kB: the corpus has it in full
    # once for each kind and result. All other rows name what they share with the honest one of
    # their kind.
    bases = {row.kind: row for row in reversed(HONEST) if row.kind in (*TDS, "gpu")}
    # There are many proofs, and they are short.
    logged = next(row for row in HONEST if row.name == IN_A_LOG)
    about_logs = {row.name for row in attacks_log.ATTACKS} | {row[0] for row in attacks_log.RIGHT}
    evaluated = next(row for row in HONEST if row.name == EVALUATION)
    seen = set()
    for row in rows:
        result = row.kind, isinstance(row, Attack), row.check
        base = bases[row.kind] if row.kind in bases and result in seen else None
        seen.add(result)
        if row.name in about_logs and row is not logged:
            base = logged
        elif EVALUATION in row.name and row is not evaluated and row.kind == evaluated.kind:
            base = evaluated
        yield place(row), _bytes(vector(row, base))


def place(row: Attack | Honest) -> str:
    """Return the path of a row's file."""
    folder = "forged" if isinstance(row, Attack) else "honest"
    return f"{folder}/{slug(row.name)}.json"


def certificate_of(row: Attack | Honest) -> bytes:
    """Return the certificate file of a row's scene."""
    scene = Scene(row.kind, row.version)
    row.change(scene)
    data: bytes = scene.get("file")
    return data


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def vector(row: Attack | Honest, base: Honest | None = None) -> dict[str, object]:
    """Return one scenario: what the verifier is given, and its expected verdict.

    With a `base`, the certificate names what it shares with the base's certificate.
    """
    scene = Scene(row.kind, row.version)
    row.change(scene)
    certificate = pieces(scene.get("file"))
    if scene.audits is not None and row.name not in (AUDITED, AUDIT, EVALUATED, ITSELF):
        base = _honest(EVALUATED if scene.get("policy").evaluations else AUDITED)
    if base is not None:
        shared = copies(scene.get("file"), certificate_of(base), place(base))
        certificate = min(certificate, shared, key=lambda parts: len(json.dumps(parts)))
    uses = any("of" in part for part in certificate)
    format_ = WITH_AUDITS if scene.audits is not None else WITH_COPIES if uses else FORMAT
    scenario: dict[str, object] = {
        "format": format_, "name": row.name, "expected": _expected(row),
    }  # fmt: skip
    described = [text for text, names in ELSEWHERE.items() if row.name in names]
    if described:
        scenario["acceptedElsewhere"] = described[0]
    wanted = scene.caller_lockfile
    nonce = scene.caller_nonce
    inputs: dict[str, object] = {
        "at": stamp(scene.at),
        "lockfile": str(wanted) if isinstance(wanted, Digest) else None,
        "nonce": None if nonce is None else nonce.hex(),
        "policy": policy_files(scene.get("policy")),
        "model": _model(scene),
        "ancestors": (
            None
            if scene.ancestors is None
            else [pieces(certificates.emit(older)) for older in scene.ancestors]
        ),
        "certificate": certificate,
    }
    if scene.audits is not None:
        inputs["audits"] = [_audit(*one) for one in scene.audits]
    return scenario | {"inputs": inputs}


def _honest(name: str) -> Honest:
    return next(row for row in HONEST if row.name == name)


def _audit(certificate: Certificate, results: bytes) -> dict[str, object]:
    """Return an audit or an evaluation beside the certificate; most of it is shared with one that
    is judged itself.
    """
    whole, data = certificates.emit(certificate), certificate.lockfile
    alone = _honest(ITSELF if b"axolotl-evaluate" in data else AUDIT)
    parts = copies(whole, certificate_of(alone), place(alone))
    return {"certificate": parts, "results": pieces(results)}


def _expected(row: Attack | Honest) -> dict[str, object]:
    if isinstance(row, Honest):
        verdict, check = row.verdict, row.check
    elif row.check == MALFORMED:
        verdict, check = MALFORMED, None
    else:
        verdict, check = "failed", row.check
    return {"verdict": verdict, "check": check, "exitCode": EXIT_CODES[verdict]}


def _model(scene: Scene) -> dict[str, object] | None:
    if not scene.with_model:
        return None
    files = scene.get("model")
    return {path: {"size": files[path].size, "sha256": files[path].sha256} for path in files}


def pieces(data: bytes) -> list[dict[str, object]]:
    """Return bytes as JSON: pieces of text or, if they are not UTF-8, of hex; some are repeated."""
    parts: list[dict[str, object]] = []
    start = 0
    for run in _RUN.finditer(data) if len(data) > LARGE else ():
        parts += _plain(data[start : run.start()])
        (unit,) = _plain(run[1])
        parts.append(unit | {"times": len(run[0]) // len(run[1])})
        start = run.end()
    return parts + _plain(data[start:])


def copies(data: bytes, base: bytes, path: str) -> list[dict[str, object]]:
    """Return bytes as pieces, some copied from the certificate of the scenario at `path`."""
    places: dict[bytes, int] = {}
    for at in range(0, len(base) - SHARED + 1, SHARED):
        places.setdefault(base[at : at + SHARED], at)
    parts: list[dict[str, object]] = []
    at = done = 0
    while at < len(data):
        start, place = at, places.get(data[at : at + SHARED])
        if place is None:
            at += 1
            continue
        while start > done and place > 0 and data[start - 1] == base[place - 1]:
            start, place = start - 1, place - 1
        size = at - start + SHARED
        while (
            start + size < len(data)
            and place + size < len(base)
            and data[start + size] == base[place + size]
        ):
            size += 1
        parts += pieces(data[done:start])
        parts.append({"of": path, "at": place, "size": size})
        at = done = start + size
    return parts + pieces(data[done:])


def _plain(data: bytes) -> list[dict[str, object]]:
    parts: list[dict[str, object]] = []
    while data:
        try:
            return [*parts, {"text": data.decode("utf-8")}]
        except UnicodeDecodeError as error:
            if error.start:
                parts.append({"text": data[: error.start].decode("utf-8")})
            parts.append({"hex": data[error.start : error.end].hex()})
            data = data[error.end :]
    return parts


def policy_files(policy: Policy) -> dict[str, str]:
    """Return the policy as a policy file (docs/spec/policy.md), with the files that it names."""
    files: dict[str, str] = {}
    lines = [f'name = "{policy.name}"', f'tier = "{policy.tier}"']
    if policy.max_age_days is not None:
        lines.append(f"max-age-days = {policy.max_age_days}")
    if policy.allow:
        lines.append(f"allow = {json.dumps(sorted(policy.allow))}")
    if policy.require:
        lines.append(f"require = {json.dumps(sorted(policy.require))}")
    if policy.quorum:
        lines.append(f"witnesses = {policy.quorum}")
    if policy.name == "default":
        return {"policy.toml": 'extends = "default"\nname = "default"\n'}
    for number, root in enumerate(policy.roots):
        files[f"root-{number}.pem"] = ca_forge.pem(root.der).decode("ascii")
        pinned = {f"root-{number}-{i}.pem": der for i, der in enumerate(root.intermediates)}
        files |= {name: ca_forge.pem(der).decode("ascii") for name, der in pinned.items()}
        lines += _root_lines(root, f"root-{number}.pem", list(pinned))
    lines += ["", "[images]", f"accepted = {_digests(policy.accepted)}"]
    lines.append(f"revoked = {_digests(policy.revoked)}")
    for firmware in policy.firmware:
        lines += ["", "[[firmware]]", f'name = "{firmware.name}"']
        lines += [f'family = "{firmware.family}"'] if firmware.family else []
        lines += [f'pcr{index} = "{value.hex()}"' for index, value in firmware.pcrs.items()]
    for number, chip in enumerate(policy.chips):
        pems = {f"ark-{number}.pem": chip.root, f"ask-{number}.pem": chip.issuer}
        files |= {name: ca_forge.pem(der).decode("ascii") for name, der in pems.items()}
        lines += ["", "[[chip]]", f'name = "{chip.name}"']
        lines += ['key = "vlek"'] if chip.vlek else []
        for key, (name, der) in zip(("root", "issuer"), pems.items(), strict=True):
            lines += [f'{key} = "{name}"', f'{key}-sha256 = "{ca_forge.hash_of(der)}"']
        least = ", ".join(f"{part} = {version}" for part, version in chip.minimum.items())
        lines.append(f"minimum-tcb = {{ {least} }}")
    for launch in policy.id_key_signers:
        lines += ["", "[[launch]]", f'name = "{launch.name}"', f'id-key = "{launch.id_key.hex()}"']
        lines.append(f"minimum-svn = {launch.minimum_svn}")
        lines += [f'chip = "{launch.chip}"'] if launch.chip else []
        lines += [f'until = "{launch.until}"'] if launch.until else []
    for number, maker in enumerate(policy.td_roots):
        files[f"tdx-{number}.pem"] = ca_forge.pem(maker.root).decode("ascii")
        lines += ["", "[[tdx]]", f'name = "{maker.name}"', f'root = "tdx-{number}.pem"']
        lines += [f'root-sha256 = "{ca_forge.hash_of(maker.root)}"']
        lines += [f"statuses = {json.dumps(sorted(maker.statuses))}"]
        lines += [f"minimum-evaluation = {maker.minimum_evaluation}"]
    for number, one in enumerate(policy.gpus):
        lines += ["", "[[gpu]]", f'name = "{one.name}"']
        for key, der in (("root", one.root), ("rim-root", one.rim_root)):
            name = f"gpu-{number}-{key}.pem"
            files[name] = ca_forge.pem(der).decode("ascii")
            lines += [f'{key} = "{name}"', f'{key}-sha256 = "{ca_forge.hash_of(der)}"']
        for key, versions in (("drivers", one.drivers), ("vbios", one.vbios)):
            lines += [f"{key} = {json.dumps(sorted(versions))}"] if versions else []
    for td in policy.tds:
        lines += ["", "[[td]]", f'name = "{td.name}"', f'mrtd = "{td.mrtd.hex()}"']
        lines += [f'rtmr{i} = "{value.hex()}"' for i, value in enumerate(td.rtmrs) if any(value)]
        lines += [f'until = "{td.until}"'] if td.until else []
    for number, authority in enumerate(policy.time_authorities):
        pems = {f"time-{number}.pem": authority.root}
        middle = {f"time-{number}-{i}.pem": der for i, der in enumerate(authority.intermediates)}
        files |= {name: ca_forge.pem(der).decode("ascii") for name, der in (pems | middle).items()}
        lines += ["", "[[time-authority]]", f'name = "{authority.name}"']
        lines += [f'certificate = "time-{number}.pem"']
        lines += [f'sha256 = "{ca_forge.hash_of(authority.root)}"']
        lines += [f"intermediates = {json.dumps(list(middle))}"] if middle else []
    for audit in policy.audits:
        lines += ["", "[[audit]]", f'kind = "{audit.kind}"', f"at-most = {audit.at_most}"]
        lines += [f'column = "{audit.column}"'] if audit.column is not None else []
        lines += [f'list = "{audit.list}"'] if audit.list is not None else []
        most = {"missing": audit.missing, "unparsable": audit.unparsable}
        most |= {"unusable": audit.unusable, "unread-bytes": audit.unread_bytes}
        lines += [f"{key} = {bound}" for key, bound in most.items() if bound is not None]
        lines += [f"texts = {_digests(audit.texts)}"] if audit.texts else []
    lines += _evaluation_lines(policy.evaluations)
    for kind, signers in (("log", policy.logs), ("witness", policy.witnesses)):
        for signer in signers:
            lines += ["", f"[[{kind}]]", f'name = "{signer.name}"', f'key = "{signer.key}"']
    for claim in policy.claims:
        lines += ["", "[[claim]]", f'name = "{claim.name}"']
        bounds = {"at-least": claim.at_least, "at-most": claim.at_most}
        lines += [f"{key} = {bound}" for key, bound in bounds.items() if bound is not None]
        lines.append(f"origins = {json.dumps(sorted(claim.origins))}")
    lines += _compute_lines(policy.compute)
    return {"policy.toml": "\n".join(lines) + "\n", **files}


def _evaluation_lines(demands: Sequence[EvaluationDemand]) -> list[str]:
    lines: list[str] = []
    for demand in demands:
        # Some name a task of the image.
        known = BY_DIGEST.get(demand.task)
        task = demand.task if known is None else known.name
        lines += ["", "[[evaluation]]", f'task = "{task}"', f'metric = "{demand.metric}"']
        bounds = {"at-least": demand.at_least, "at-most": demand.at_most}
        bounds |= {"samples-at-least": demand.samples, "template-tokens": demand.template_tokens}
        lines += [f"{key} = {bound}" for key, bound in bounds.items() if bound is not None]
    return lines


def _compute_lines(demand: ComputeDemand | None) -> list[str]:
    if demand is None:
        return []
    lines = ["", "[compute]", f"at-most = {demand.at_most!r}"]
    lines += ['lineage = "sum"'] if demand.lineage else []
    caps = demand.caps
    if caps != CAPS:
        lines += [f"processor = {caps.processor!r}", f"accelerator = {caps.accelerator!r}"]
        lines.append(f'reviewed = "{caps.reviewed}"')
    return lines


def _root_lines(root: Root, file: str, pinned: list[str]) -> list[str]:
    lines = ["", "[[root]]", f'name = "{root.name}"', f'certificate = "{file}"']
    lines += [f'sha256 = "{ca_forge.hash_of(root.der)}"', f'tier = "{root.tier}"']
    lines.append(f'ak-purpose = "{"required" if root.needs_eku else "if-present"}"')
    if root.eku != EKU_AK:
        lines.append(f'ak-eku = "{root.eku}"')
    if root.subjects:
        lines.append(f"subject-suffixes = {json.dumps(list(root.subjects))}")
    if pinned:
        lines.append(f"intermediates = {json.dumps(pinned)}")
    return lines


def _digests(digests: frozenset[Digest]) -> str:
    return json.dumps([str(digest) for digest in sorted(digests)])


def _bytes(document: dict[str, object]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def index(files: Mapping[str, bytes]) -> bytes:
    """List all scenarios in order, each with its digest.

    The digest of the corpus is over these lines: SHA-256, two spaces, the path, as `sha256sum`
    prints them.
    """
    scenarios = []
    listing = ""
    for path in sorted(files):
        scenario, digest = json.loads(files[path]), hashlib.sha256(files[path]).hexdigest()
        expected = scenario["expected"]
        listing += f"{digest}  {path}\n"
        scenarios.append(
            {
                "path": path,
                "name": scenario["name"],
                "verdict": expected["verdict"],
                "check": expected["check"],
                "needs": reading.needs(scenario["inputs"]["policy"]),
                "sha256": digest,
            }
        )
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return _bytes(
        {"format": FORMAT, "protocol": PROTOCOL, "digest": f"sha256:{digest}",
         "scenarios": scenarios}
    )  # fmt: skip


def main() -> None:
    """Bring the files beside this script up to date; print what changed."""
    wanted = dict(corpus())
    wanted[INDEX] = index(wanted)
    for path, data in wanted.items():
        file = FOLDER / path
        file.parent.mkdir(exist_ok=True)
        if not file.exists() or file.read_bytes() != data:
            file.write_bytes(data)
            print(f"wrote    {path}")
    for file in reading.paths():
        if str(file.relative_to(FOLDER)) not in wanted:
            file.unlink()
            print(f"removed  {file.relative_to(FOLDER)}")


if __name__ == "__main__":
    main()
