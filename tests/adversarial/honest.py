"""Odd evidence that is right, and right evidence that is not enough: neither may be refused.

One row per scene: its name, the change, and the verdict: `passed`, or `none` with the first check
that could not be made.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from aicert.appraisal.policy import Claim
from aicert.formats.digest import Digest, FileFact, of_bytes
from aicert.formats.run_report import Value
from aicert.formats.run_report_facts import Loss, LossState
from tests.adversarial import (
    attacks_compute,
    attacks_epochs,
    attacks_gpu,
    attacks_log,
    attacks_td,
    ca_forge,
    chip_forge,
    tpm_forge,
)
from tests.adversarial.attacks_audits import RIGHT as OF_AUDITS
from tests.adversarial.attacks_chip import (
    BINDING,
    CHIP,
    GUEST,
    certified,
    cloud_signed,
    guest,
    keys,
    wrapped,
)
from tests.adversarial.attacks_compute import bounds
from tests.adversarial.attacks_convert import convert
from tests.adversarial.attacks_evaluations import RIGHT as OF_EVALUATIONS
from tests.adversarial.attacks_machine import firmware_sets
from tests.adversarial.attacks_merge import combine, merge
from tests.adversarial.attacks_platform import (
    LAST_YEAR,
    ak,
    chained,
    intermediate,
    pinned,
    two_levels_below,
    with_ek_purpose,
    with_intermediate,
)
from tests.adversarial.attacks_quantise import quantise, to_nearest
from tests.adversarial.attacks_results import audit, evaluate, named, trainer
from tests.adversarial.attacks_run import ancestor, files, input_code, reported, words
from tests.adversarial.attacks_run import value as reported_values
from tests.adversarial.attacks_statement import SIGNER, audits, signers
from tests.adversarial.attacks_tasks import RIGHT as ON_TASKS
from tests.adversarial.attacks_time import RIGHT
from tests.adversarial.attacks_tpm import quote_signature
from tests.adversarial.attacks_version_2 import both, data_is_a_file, loss
from tests.adversarial.ca_forge import EKU_AK, EKU_EK, ec_key, rsa_key
from tests.adversarial.forger import FACTS, STARTED_MS, TDS, Scene, hex_of
from tests.adversarial.tpm_forge import ECDSA, RSAPSS, RSASSA, SHA256, SHA384, SHA512

Change = Callable[[Scene], object]
HASH_NAMES = {SHA256: "sha256", SHA384: "sha384", SHA512: "sha512"}


@dataclass(frozen=True, slots=True)
class Honest:
    """One row; `check` is the first check that is left open where the verdict is `none`."""

    name: str
    change: Change
    kind: str = "local"
    verdict: str = "passed"
    check: str | None = None
    version: int = 1


def unchanged(scene: Scene) -> None:
    """Leave the scene as the Forger makes it."""


def padded(octet: bytes) -> Change:
    """Pad the AK's certificate to its NV index, as a TPM returns it (Azure: 4096 octets)."""
    return lambda s: s.edit("chain", lambda chain: (chain[0].ljust(4096, octet), *chain[1:]))


def both_of(first: Change, second: Change) -> Change:
    def changed(scene: Scene) -> None:
        first(scene)
        second(scene)

    return changed


def expired_since(scene: Scene) -> None:
    chained(end=LAST_YEAR)(scene)
    scene.at = datetime(2026, 5, 1, tzinfo=UTC)


def root_sent_along(scene: Scene) -> None:
    scene.edit("chain", lambda chain: (*chain, scene.get("root")))


def whole_chain_sent(scene: Scene) -> None:
    scene.put("chain", (*intermediate(scene), scene.get("root")))


def pinned_intermediate(scene: Scene) -> None:
    """Pin the intermediate, as for Azure's machines, whose TPMs hold the AK's certificate alone."""
    leaf, middle = intermediate(scene)
    scene.put("chain", (leaf,))
    (root,) = scene.get("policy").roots
    policy(roots=(replace(root, intermediates=(middle,)),))(scene)


def undecided(name: str, check: str, change: Change) -> Honest:
    """Return a row for a confidential machine in which `check` stays open and none fails."""
    return Honest(name, change, "confidential", "none", check)


def with_number(at: int, number: int) -> Callable[[bytes], bytes]:
    """Put another scheme (at 0) or hash (at 2) in a TPM's signature."""
    return lambda signature: signature[:at] + number.to_bytes(2) + signature[at + 2 :]


def unknown_algorithm(scene: Scene) -> None:
    """Sign a chip's certificate with ECDSA instead of RSASSA-PSS."""
    der = ca_forge.issue(
        "SEV-VCEK",
        chip_forge.chip_key(),
        issuer=chip_forge.ASK,
        issuer_key=ec_key("ec ask"),
        ca=None,
    )
    scene.put("vcek", der)


def launched(scene: Scene) -> None:
    """Require another SVN of the same key, but only on another line of processors."""
    name = chip_forge.makers()[0].name
    other = replace(chip_forge.PARAVISOR, chip="another line", minimum_svn=1 << 16)
    ours = replace(chip_forge.PARAVISOR, chip=name, until=scene.at.date())
    policy(id_key_signers=(other, ours))(scene)


def two_pinned(scene: Scene) -> None:
    """Pin two intermediates, as for Azure's newer hierarchy, whose TPMs hold the leaf alone."""
    two_levels_below(scene, path_length=1)
    leaf, second, middle = scene.get("chain")
    scene.put("chain", (leaf,))
    pinned(second, middle)(scene)


def issuer_missing(scene: Scene) -> None:
    leaf, _ = intermediate(scene)
    scene.put("chain", (leaf,))


def issuer_of_another_key(scene: Scene) -> None:
    """Pin one of several intermediates of the same name, as Google has them."""
    _, middle = intermediate(scene)
    pinned(middle)(scene)
    scene.put("chain", (ak(scene, issuer="intermediate", issuer_key=ec_key("its successor")),))


def unknown_key(scene: Scene) -> None:
    key = ec.derive_private_key(521, ec.SECP521R1())
    scene.put("chain", (ak(scene, key=key),))


def signed_with(key: Callable[[], tpm_forge.AkKey], scheme: int, hash_: int) -> Change:
    """Sign with another kind of AK; pcrDigest uses the hash of its scheme (Part 3, 18.4)."""

    def change(scene: Scene) -> None:
        scene.ak = key()
        pcrs = scene.get("pcrs")
        scene.put("pcr_digest", _hash(hash_, b"".join(pcrs[i] for i in range(16))))
        for part in ("quote", "certify"):
            attest = scene.get(f"{part}_attest")
            signature = tpm_forge.sign(scene.ak, attest, scheme=scheme, hash_=hash_)
            scene.put(f"{part}_signature", signature)

    return change


def _hash(algorithm: int, data: bytes) -> bytes:
    return hashlib.new(HASH_NAMES[algorithm], data).digest()


def policy(**changes: Any) -> Change:
    return lambda s: s.edit("policy", lambda given: replace(given, **changes))


def own_nonce(scene: Scene) -> None:
    scene.caller_nonce = scene.get("nonce")


def own_nonce_and_age(scene: Scene) -> None:
    own_nonce(scene)
    policy(max_age_days=30)(scene)


def own_lockfile(scene: Scene) -> None:
    scene.caller_lockfile = of_bytes(scene.get("lockfile_bytes"))


def no_model(scene: Scene) -> None:
    scene.with_model = False


def beside_inert_files(scene: Scene) -> None:
    inert = ("README.md", "LICENSE", "LICENSE.txt", ".gitattributes", ".git/HEAD")
    more = (".cache/huggingface/x", "certificate.json", "LICENSE-APACHE.md")
    facts = {path: FileFact(1, hex_of(b"x")) for path in (*inert, *more)}
    scene.edit("model", lambda model: model | facts)


def lineage_not_asked(scene: Scene) -> None:
    ancestor(unchanged)(scene)
    scene.ancestors = None


def as_vtpm(scene: Scene) -> None:
    """Ask for the `vtpm` tier alone, which ignores the processor's report."""
    (root,) = scene.get("policy").roots
    policy(tier="vtpm", roots=(replace(root, tier="vtpm"),), chips=(), id_key_signers=())(scene)


def padded_report(scene: Scene) -> None:
    scene.edit("hcl", lambda report: report.ljust(2600, b"\0"))


def chip_certificate(**options: Any) -> Change:
    return lambda s: s.put("vcek", chip_forge.vcek(**options))


def wrapped_chip_id(scene: Scene) -> None:
    """Wrap the chip's ID as AMD's specification says, although AMD does not."""
    wrapped = chip_forge.chip_extensions(b"\x04\x40" + chip_forge.CHIP_ID)
    chip_certificate(extensions=wrapped)(scene)


def newer_firmware(scene: Scene) -> None:
    tcb = bytes((11, 1, 0, 0, 0, 0, 200, 255))
    scene.edit("guest", lambda guest: guest | {"tcb": tcb, "svn": chip_forge.SVN + 1})
    chip_certificate(extensions=chip_forge.chip_extensions(tcb=tcb))(scene)


WITHIN = Claim(name="totalFlops", at_least=1e12, at_most=1.5e12)
BELIEVED = Claim(name="steps", at_least=40, origins=frozenset(("self-reported",)))

ONE_NUMBER = Value("self-reported", 4.0)
BOUNDS = (
    Claim(name="templateTokenShare", at_most=0.25),
    Claim(name="attestedSeconds", at_least=0.75, at_most=0.75, origins=frozenset(("derived",))),
    Claim(name="unreadBytes", at_least=12, at_most=12),
)


def of_2(name: str, *changes: Change, verdict: str = "passed", check: str | None = None) -> Honest:
    return Honest(name, both(*changes), "local", verdict, check, version=2)


def attested(start: int = STARTED_MS, end: int = 1000, safe: int = 1) -> Change:
    """Set the TPM clock of the certification and of the quote."""

    def change(scene: Scene) -> None:
        scene.edit("certify", lambda certify: certify | {"clock": start, "safe": safe})
        scene.edit("quote", lambda quote: quote | {"clock": end, "safe": safe})

    return change


def losses(*values: float) -> Change:
    return reported_values("losses", Value("self-reported", values))


def no_loss(state: LossState) -> Loss:
    return Loss(state=state, reason="the reason")


def several_records(scene: Scene) -> None:
    (one,) = FACTS["records"]
    more = [replace(one, split=f"part-{number}") for number in range(6)]
    more.append(replace(one, files=("train.jsonl", "more.jsonl"), rows=1))
    reported(records=(one, *more))(scene)


def read_twice(scene: Scene) -> None:
    (one,) = FACTS["records"]
    reported(records=(one, replace(one, rows=1, digest=Digest("sha256", "b2" * 32))))(scene)


def data_is_one_file(scene: Scene) -> None:
    data_is_a_file(scene)
    (one,) = FACTS["records"]
    reported(records=(replace(one, files=()),))(scene)


HONEST = (
    Honest("local run", unchanged),
    Honest("qemu run", unchanged, "qemu"),
    Honest("cloud run", unchanged, "cloud"),
    Honest("confidential run", unchanged, "confidential"),
    Honest("confidential machine, judged as a cloud's", as_vtpm, "confidential"),
    Honest("report padded to the size of its index", padded_report, "confidential"),
    Honest("chip certificate with a serial number", chip_certificate(serial=5), "confidential"),
    Honest("chip id as an octet string", wrapped_chip_id, "confidential"),
    Honest("processor newer than asked for", newer_firmware, "confidential"),
    Honest(
        "report without a chip certificate",
        lambda s: s.put("vcek", None),
        "confidential",
        "none",
        "platform.chip",
    ),
    Honest(
        "confidential machine without a report",
        lambda s: s.put("platform", None),
        "confidential",
        "none",
        "platform.chip",
    ),
    Honest("policy names no processor", policy(chips=()), "confidential", "none", "platform.chip"),
    Honest(
        "policy names no launch",
        policy(id_key_signers=()),
        "confidential",
        "none",
        "platform.guest",
    ),
    undecided("chip certificate of another issuer name", CHIP, certified(issuer="SEV-Turin")),
    undecided("chip certificate with an unknown algorithm", CHIP, unknown_algorithm),
    undecided("report signed by a cloud's key (VLEK)", CHIP, guest(flags=1 << 2)),
    undecided("report signed by a key of an unknown kind", CHIP, guest(flags=3 << 2)),
    undecided("report of an unknown version", CHIP, guest(version=6)),
    undecided("report with an unknown signature", CHIP, guest(algorithm=2)),
    undecided("TDX report where SEV-SNP is asked for", CHIP, wrapped(kind=4)),
    undecided("report of a processor of an unknown kind", CHIP, wrapped(kind=5)),
    undecided(
        "report of a paravisor of an unknown version",
        CHIP,
        lambda s: s.edit("hcl", lambda h: h[:4] + b"\3" + h[5:]),
    ),
    undecided("runtime data of an unknown version", CHIP, wrapped(version=2)),
    undecided("runtime data under an unknown hash", CHIP, wrapped(hash_=2)),
    undecided("guest policy with an unknown bit", GUEST, guest(policy=0x3001F | 1 << 26)),
    undecided(
        "attestation key of a kind that is not known",
        BINDING,
        keys(lambda all_: all_[0].update(kty="EC")),
    ),
    Honest(
        "report signed by a cloud's key that is believed",
        cloud_signed(chip_forge.vlek),
        "confidential",
    ),
    Honest("paravisor accepted on this line until today", launched, "confidential"),
    *(Honest(f"{kind} run", unchanged, kind) for kind in TDS),
    *(
        Honest(name, change, "azure td", "passed" if check is None else "none", check)
        for name, check, change in attacks_td.UNDECIDED
    ),
    # The algorithms SM2 and SM3.
    *(
        Honest(
            f"quote signed with {what} {number:#06x}",
            quote_signature(with_number(at, number)),
            "cloud",
            "none",
            "quote.signature",
        )
        for what, at, number in (
            ("scheme", 0, 0x001B),
            ("hash", 2, 0x0012),
        )
    ),
    Honest(
        "run key certified with scheme 0x001b",
        lambda scene: scene.edit("certify_signature", with_number(0, 0x001B)),
        "cloud",
        "none",
        "runkey.certified",
    ),
    Honest("run with a GPU", unchanged, "gpu"),
    *(
        Honest(name, change, "gpu", "passed" if check is None else "none", check)
        for name, check, change in attacks_gpu.UNDECIDED
    ),
    Honest("firmware mixed of two sets of a family", firmware_sets("cloud"), "cloud"),
    Honest("two intermediates pinned and not sent", two_pinned, "cloud"),
    Honest(
        "AK certificate without purpose under a root of EKs and AKs",
        with_ek_purpose(purposes=()),
        "cloud",
    ),
    Honest(
        "AK certificate with the purpose of its root", with_ek_purpose(purposes=(EKU_EK,)), "cloud"
    ),
    Honest(
        "issuer with the name of a pinned one",
        issuer_of_another_key,
        "cloud",
        "none",
        "platform.chain",
    ),
    Honest("issuer that nobody pinned", issuer_missing, "cloud", "none", "platform.chain"),
    Honest("AK of a kind that is not known", unknown_key, "cloud", "none", "platform.chain"),
    Honest("AK certificate padded with zeros", padded(b"\x00")),
    Honest("AK certificate padded with ones", padded(b"\xff"), "cloud"),
    Honest("AK certificate expired since, judged at a trusted time", expired_since),
    Honest("root sent along", root_sent_along),
    Honest("intermediate sent along", with_intermediate(), "cloud"),
    Honest("intermediate pinned with the root and not sent", pinned_intermediate, "cloud"),
    Honest("intermediate and root sent along", whole_chain_sent, "cloud"),
    Honest("intermediate for AKs and EKs", with_intermediate(purposes=(EKU_AK, EKU_EK)), "cloud"),
    Honest("AK of P-256", signed_with(lambda: ec_key("ec ak"), ECDSA, SHA256)),
    Honest(
        "AK of P-384 with SHA-384", signed_with(lambda: ec_key("ec ak", "P-384"), ECDSA, SHA384)
    ),
    Honest("RSAPSS with SHA-256", signed_with(lambda: rsa_key("ak"), RSAPSS, SHA256)),
    Honest("RSASSA with SHA-384", signed_with(lambda: rsa_key("ak"), RSASSA, SHA384)),
    Honest("RSASSA with SHA-512", signed_with(lambda: rsa_key("ak"), RSASSA, SHA512)),
    Honest("answers the caller's challenge", own_nonce),
    Honest("young by the caller's challenge", own_nonce_and_age),
    Honest("the lockfile that the caller named", own_lockfile),
    Honest("input signed by the key that is locked", signers(True, (("model", SIGNER),))),
    Honest("trained after audits that hold", audits(("look", "more"), ("look", "more"))),
    Honest("inert files beside the model", beside_inert_files),
    Honest("event log that nobody replays", lambda s: s.edit_evidence(event_log=b"no log")),
    Honest("report values within their bounds", policy(claims=(WITHIN, BELIEVED))),
    Honest(
        "outputs with model signatures",
        reported(signatures=(("model", Digest("sha256", "ab" * 32)),)),
    ),
    Honest("made of another run's output", ancestor(unchanged)),
    Honest("made of another run's output, not asked", lineage_not_asked),
    *(
        Honest(f"{name}, {condition}", both_of(change, words(*allow)), "local", verdict, check)
        for name, change, word in (
            ("code of an input", input_code(allow_remote_code=True), "remote-code"),
            ("pickles of an input", input_code(allow_pickle=True), "pickle"),
            ("code of an ancestor", ancestor(input_code(allow_remote_code=True)), "remote-code"),
        )
        for condition, allow, verdict, check in (
            ("not allowed", (), "none", "policy.claims"),
            ("another word allowed", {"pickle", "remote-code"} - {word}, "none", "policy.claims"),
            ("allowed", (word,), "passed", None),
        )
    ),
    Honest("no model given", no_model, "local", "none", "subject.files"),
    Honest(
        "policy accepts no image",
        policy(accepted=frozenset()),
        "cloud",
        "none",
        "boot.image",
    ),
    Honest(
        "certificate carries no image lock",
        lambda s: s.put("image_lock", None),
        "qemu",
        "none",
        "boot.image",
    ),
    Honest("policy names no firmware", policy(firmware=()), "cloud", "none", "boot.firmware"),
    Honest("age that nobody can tell", policy(max_age_days=30), "local", "none", "policy.age"),
    *(Honest(f"{kind} run, version 2", unchanged, kind, version=2) for kind in ("local", "cloud")),
    of_2("attestations in one millisecond", attested(start=1000)),
    of_2("clock that is not safe", attested(safe=0)),
    of_2("attestations years apart", attested(start=0, end=2**48)),
    of_2("losses of whole numbers", loss(before=6, after=4)),
    of_2("training that diverged", loss(after=14.5), losses(6.5, 9.0, *[12.0] * 8)),
    of_2("training that diverged at its last step", loss(after=14.5), losses(6.0)),
    of_2("training after which no weight is a number", loss(after=100.0), losses(6.0, *[0.0] * 9)),
    of_2("training of one step that helped much", loss(after=1.5), losses(6.0)),
    of_2("training whose last batch was easy", losses(*[5.0] * 9, 0.5), loss(after=5.0)),
    of_2("trainer that reports no loss", reported_values("losses", None)),
    of_2("trainer that reports one number as its losses", reported_values("losses", ONE_NUMBER)),
    of_2("trainer that counts no tokens", reported_values("tokens", Value("self-reported", 0))),
    of_2("trainer that does not speak of tokens", reported_values("tokens", None)),
    of_2("chat template that is an input", files(lambda f: f | {"chat_template.jinja": b"config"})),
    of_2("preference losses", loss(comparable=False, after=7.5), losses(*[0.01] * 10)),
    of_2("training of a kind without a loss", reported(loss=no_loss("no-loss"))),
    of_2("data that is made and not read", reported(records=(), loss=no_loss("no-loss"))),
    of_2("one file read in two ways", read_twice),
    of_2("no text but the rows", reported(texts=(), removed=())),
    of_2("rows of two splits and twice of one file", several_records),
    of_2("data that is one file", data_is_one_file),
    of_2("values of version 2 within their bounds", policy(claims=BOUNDS)),
    of_2("made of a run of version 1", ancestor(unchanged)),
    of_2(
        "measurement that was not completed",
        reported(loss=no_loss("incomplete")),
        verdict="none",
        check="outputs.trained",
    ),
    of_2("an audit", audit()),
    of_2("an evaluation", evaluate()),
    of_2(
        "an evaluation of an adapter", evaluate(reported_values("adapterInput", named("alpaca/a")))
    ),
    of_2("a merge", merge()),
    of_2("a merge of models", combine()),
    of_2(
        "a merge of models, two of them in one input",
        combine(reported_values("modelInput3", named("model/more"))),
    ),
    of_2("a quantisation, calibrated on rows", quantise()),
    of_2("a quantisation, without rows", to_nearest()),
    of_2("a conversion", convert()),
    of_2("an audit, by a policy that bounds compute", audit(), bounds(1.0)),
    *(
        of_2(name, change, verdict="none" if check else "passed", check=check)
        for name, change, check in (*attacks_compute.RIGHT, *attacks_epochs.RIGHT)
    ),
    of_2(
        "run of a trainer that nobody knows",
        trainer("other"),
        verdict="none",
        check="outputs.trained",
    ),
    of_2("nothing measured", reported(loss=None), verdict="none", check="outputs.trained"),
    *(
        Honest(name, change, verdict=verdict, check=check)
        for name, change, verdict, check in (*RIGHT, *attacks_log.RIGHT)
    ),
    *(
        Honest(name, change, verdict=verdict, check=check, version=version)
        for name, change, version, verdict, check in (*OF_AUDITS, *OF_EVALUATIONS, *ON_TASKS)
    ),
)
