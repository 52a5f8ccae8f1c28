"""What passes, what cannot be decided, and what an AttestationResult states about itself."""

from dataclasses import replace
from datetime import datetime

import pytest

from aicert.appraisal import revoked_images
from aicert.appraisal.policy import Claim, Firmware
from aicert.appraisal.result import BOOT_CHECKS
from aicert.crypto.x509 import stamp
from aicert.errors import ConfigError
from aicert.formats import image_lock
from aicert.formats.digest import FileFact, of_bytes
from aicert.formats.lockfile import Lockfile
from aicert.formats.run_report import Value
from tests.adversarial import tpm_forge
from tests.adversarial.attacks_platform import intermediate
from tests.adversarial.attacks_run import ancestor, input_code, words
from tests.adversarial.attacks_statement import SIGNER
from tests.adversarial.attacks_tpm import certified
from tests.adversarial.forger import BOOT, FIRMWARE, NONCE, VERITY, Scene, hex_of

# PCR 11 of the first image that was committed to this repository.
FIRST_IMAGE = "0d09387c79e533b06b0ec24b1bc79e64071f09d63df9641356a3d628889f6d34"


def test_without_a_model_there_is_no_verdict() -> None:
    scene = Scene()
    scene.with_model = False
    result = scene.appraise()
    assert (result.verdict, result.exit_code, result.certificate_consistent) == ("none", 2, "yes")
    assert [check.id for check in result.undecided] == ["subject.files"]


def test_naming_the_lockfile_by_bytes_or_digest() -> None:
    for wanted in (bytes, of_bytes):
        scene = Scene()
        scene.caller_lockfile = wanted(scene.get("lockfile_bytes"))
        result = scene.appraise()
        assert result.check("inputs.lockfile").verdict == "ok"
        assert not any("--lockfile" in line for line in result.omits)


@pytest.mark.parametrize(
    ("kind", "but"),
    [
        ("cloud", ""),
        ("confidential", ""),
        ("azure td", ", but for those of Intel's processor"),
        ("bare td", ", but for those of Intel's processor"),
        ("gpu", ", but for those of its GPUs"),
    ],
)
def test_a_pass_says_whose_revocations_nobody_has_read(kind: str, but: str) -> None:
    text = f"revocation of the platform's certificates{but}: no list was consulted"
    assert text in Scene(kind, 2).appraise().omits
    scene = Scene(kind, 2)
    scene.edit("policy", lambda policy: replace(policy, gpus=(), td_roots=()))
    assert "revocation of the platform's certificates: no list was consulted" in (
        scene.appraise().omits
    )


def test_the_callers_nonce_makes_it_fresh() -> None:
    scene = Scene()
    assert "not fresh" in scene.appraise().check("quote.nonce").detail
    scene.caller_nonce = NONCE
    assert "your nonce" in scene.appraise().check("quote.nonce").detail


def test_age_is_known_from_the_callers_nonce_only() -> None:
    scene = Scene()
    scene.edit("policy", lambda policy: replace(policy, max_age_days=30))
    result = scene.appraise()
    assert (result.verdict, result.check("policy.age").verdict) == ("none", "not-checked")
    scene.caller_nonce = NONCE
    assert scene.appraise().check("policy.age").verdict == "ok"


def test_claims_say_where_a_value_is_from() -> None:
    scene = Scene()
    claims = (
        Claim(name="totalFlops", at_most=1e13, at_least=1e12),
        Claim(name="steps", at_least=40, origins=frozenset(("self-reported",))),
    )
    scene.edit("policy", lambda policy: replace(policy, claims=claims))
    detail = scene.appraise().check("policy.claims").detail
    assert detail == "totalFlops is 1500000000000.0 (derived); steps is 40 (self-reported)"


def test_inert_files_are_present_and_not_covered() -> None:
    scene = Scene()
    inert = {
        "README.md", "LICENSE", "LICENSE.txt", "LICENSE-APACHE", ".gitattributes", ".git/HEAD",
        ".cache/huggingface/x", "certificate.json",
    }  # fmt: skip
    scene.edit("model", lambda model: model | {path: FileFact(1, hex_of(b"i")) for path in inert})
    detail = scene.appraise().check("subject.files").detail
    assert "3 files, 47 bytes\npresent, not covered: .cache/huggingface/x, .git/HEAD, " in detail
    assert detail.endswith("\nsomebody else's .git/ can make git run programs: remove it")
    assert scene.appraise().verdict == "passed"


def test_differences_are_shown_in_part() -> None:
    scene = Scene()
    extra = {f"x{i}": FileFact(1, hex_of(b"x")) for i in range(9)}
    scene.edit("model", lambda model: model | extra)
    assert scene.appraise().check("subject.files").detail.endswith("extra     x4\nand 4 more")


def test_one_of_several_outputs_is_the_model() -> None:
    scene = Scene()
    scene.edit("lockfile", lambda locked: replace(locked, outputs=("adapter", "model")))
    scene.edit("outputs", lambda outputs: outputs | {"adapter": {"a.safetensors": b"delta"}})
    result = scene.appraise()
    assert "output model" in result.check("subject.files").detail
    assert result.check("outputs.nonempty").detail == "4 files in 2 outputs"
    assert result.verdict == "passed"
    assert set(result.subject or {}) == {"adapter", "model"}


def test_lineage() -> None:
    scene = Scene()
    ancestor(lambda _: None)(scene)
    result = scene.appraise()
    assert result.check("lineage.ancestors").verdict == "ok"
    scene.ancestors = None
    result = scene.appraise()
    assert (result.check("lineage.ancestors").verdict, result.verdict) == ("not-checked", "passed")


def test_code_of_an_input_is_said_in_the_verdict() -> None:
    scene = Scene()
    input_code(allow_remote_code=True, allow_pickle=True)(scene)
    result = scene.appraise()
    assert (result.verdict, result.exit_code, result.certificate_consistent) == ("none", 2, "no")
    text = "code that came with input model of run tiny ran in the trainer"
    assert result.check("policy.claims").detail.startswith(f"{text}: policy test lacks")
    words("pickle", "remote-code")(scene)
    result = scene.appraise()
    assert result.verdict == "passed"
    assert result.check("policy.claims").detail.startswith(f"{text}, which policy test allows; ")
    assert f"code from outside the image: {text}" in result.trusts
    assert "40 steps (self-reported)" in result.check("outputs.trained").detail


def test_code_of_an_ancestor_is_asked_for_however_far_it_is() -> None:
    def from_run(scene: Scene, name: str, source: str, older: Scene) -> Scene:
        def edited(locked: Lockfile) -> Lockfile:
            *others, last = locked.inputs
            digest = older.get("statement").outputs["model"].digest
            taken = replace(last, source=source, uri=source, digest=digest)
            return replace(locked, run=name, inputs=(*others, taken))

        scene.edit("outputs", lambda _: {"model": {"model.safetensors": name.encode()}})
        return scene.edit("lockfile", edited)

    def scenes() -> tuple[Scene, list[Scene]]:
        base = Scene()
        base.edit("lockfile", lambda locked: replace(locked, run="base"))
        input_code(allow_remote_code=True)(base)
        tuned = from_run(Scene(), "tuned", "run:base/model", base)
        return from_run(Scene(), "last", "run:tuned/model", tuned), [base, tuned]

    last, older = scenes()
    last.ancestors = [each.get("certificate") for each in older]
    result = last.appraise()
    assert result.check("lineage.ancestors").verdict == "ok"
    assert result.check("policy.claims").verdict == "not-checked"
    assert "input model of run base" in result.check("policy.claims").detail
    assert result.verdict == "none"
    words("remote-code")(last)
    result = last.appraise()
    assert result.verdict == "passed"
    assert any("input model of run base" in line for line in result.trusts)


def test_no_run_is_its_own_ancestor() -> None:
    scene = Scene()
    ancestor(lambda _: None)(scene)
    assert scene.appraise().check("lineage.ancestors").verdict == "ok"
    scene.ancestors = [scene.get("certificate")]
    assert scene.appraise().check("lineage.ancestors").verdict == "failed"


def test_intermediates_and_root_may_be_sent() -> None:
    for kind in ("local", "cloud"):
        scene = Scene(kind)
        chain = intermediate(scene)
        scene.put("chain", chain)
        assert scene.appraise().verdict == "passed"
        scene.put("chain", (*chain, scene.get("root")))
        assert scene.appraise().verdict == "passed"


def test_a_padded_ak_certificate_passes() -> None:
    for filler in (b"\x00", b"\xff"):
        scene = Scene()
        scene.put("chain", (scene.get("chain")[0].ljust(4096, filler),))
        assert scene.appraise().verdict == "passed"


@pytest.mark.parametrize("scheme", [tpm_forge.RSASSA, tpm_forge.RSAPSS])
def test_signature_schemes(scheme: int) -> None:
    scene = Scene()
    attest = scene.get("quote_attest")
    scene.put("quote_signature", tpm_forge.sign(scene.ak, attest, scheme=scheme))
    # An edit makes the parts anew, with another DSSE signature, but the quote stays the same.
    assert scene.appraise().verdict == "passed"


def test_expired_is_good_at_a_time_that_the_caller_states() -> None:
    scene = Scene()
    scene.at = datetime.fromisoformat("2037-01-01T00:00:00Z")
    assert scene.appraise().check("platform.chain").verdict == "failed"
    scene.at = datetime.fromisoformat("2030-01-01T00:00:00Z")
    assert scene.appraise().verdict == "passed"
    scene.at = datetime(2030, 1, 1)  # noqa: DTZ001 - a time without a zone is the point
    with pytest.raises(ConfigError, match="time zone"):
        scene.appraise()


def test_what_is_quoted_and_not_compared_is_said() -> None:
    assert set(Scene("cloud").appraise().quoted) == {5, 6, 9, 10, 15}
    assert set(Scene().appraise().quoted) == set(range(16)) - {8, 14}


def test_one_step_is_a_training() -> None:
    steps = Value("self-reported", 1)
    scene = Scene().edit(
        "report", lambda report: replace(report, values=dict(report.values) | {"steps": steps})
    )
    check = scene.appraise().check("outputs.trained")
    assert check.detail.startswith("1 steps (self-reported), 5120 tokens (self-reported)\n1 weight")


def test_as_many_changed_tensors_as_new_ones() -> None:
    counts = dict.fromkeys(("tensorsChanged", "tensorsNew"), Value("measured", 3))
    scene = Scene().edit(
        "report", lambda report: replace(report, values=dict(report.values) | counts)
    )
    check = scene.appraise().check("outputs.trained")
    assert check.verdict == "ok"
    assert "3 tensors changed, 3 new" in check.detail


def test_what_came_out_as_it_went_in_is_named_in_part() -> None:
    names = tuple(f"{letter}.safetensors" for letter in "abcd")
    scene = Scene().edit("report", lambda report: replace(report, unchanged_weights=names))
    check = scene.appraise().check("outputs.trained")
    assert check.detail.endswith(": 'a.safetensors, b.safetensors, c.safetensors'")


def test_of_a_long_list_of_weights_the_start_is_shown() -> None:
    names = tuple(letter * 80 for letter in "abc")
    scene = Scene().edit("report", lambda report: replace(report, unchanged_weights=names))
    assert scene.appraise().check("outputs.trained").detail == (
        f"weights are unchanged from an input: '{', '.join(names)[:200]}'"
    )


def test_every_dm_verity_root_that_an_image_has_is_named() -> None:
    verity = VERITY | {"esp": of_bytes(b"esp")}
    lock = image_lock.emit(name="machine", disk=of_bytes(b"disk"), pcrs=BOOT, verity=verity)
    scene = Scene("cloud").put("image_lock", lock)
    scene.edit("policy", lambda policy: replace(policy, accepted=frozenset((of_bytes(lock),))))
    assert scene.appraise().check("boot.image").detail == (
        "the statement and the accepted image name different dm-verity roots\n"
        f"found     root {VERITY['root']}\n"
        f"expected  esp {verity['esp']}, root {VERITY['root']}"
    )


def test_an_image_that_this_project_has_revoked_fails_under_every_policy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene("cloud")
    assert scene.appraise().verdict == "passed"
    lock = image_lock.parse(scene.get("image_lock"))
    reason = revoked_images.REVOKED[bytes.fromhex(FIRST_IMAGE[:16])]
    monkeypatch.setitem(revoked_images.REVOKED, lock.pcrs[11][:8], reason)
    # The caller's own policy accepts the image and revokes none.
    result = scene.appraise()
    assert [check.id for check in result.failed] == ["boot.image"]
    assert result.check("boot.image").detail == f"image {lock.digest} is revoked: {reason}"
    assert "weights that existed before the run" in reason

    # The same image under a lock with another name.
    renamed = image_lock.emit(
        name="renamed", disk=lock.disk, pcrs=lock.pcrs, verity=lock.verity, packages=lock.packages
    )
    scene.put("image_lock", renamed)
    scene.edit("policy", lambda policy: replace(policy, accepted=frozenset((of_bytes(renamed),))))
    assert [check.id for check in scene.appraise().failed] == ["boot.image"]


def test_a_policy_says_why_it_revoked_an_image() -> None:
    scene = Scene("cloud")
    digest = of_bytes(scene.get("image_lock"))
    revoked = frozenset((digest,))
    scene.edit("policy", lambda policy: replace(policy, revoked=revoked))
    detail = f"policy test has revoked image {digest}"
    assert scene.appraise().check("boot.image").detail == detail
    scene.edit("policy", lambda policy: replace(policy, reasons={digest: "its kernel"}))
    assert scene.appraise().check("boot.image").detail == f"{detail}: its kernel"


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (FIRST_IMAGE, "weights that existed before the run"),
        # The last image of each kind before the runner read the rows.
        (
            "f9fd518e7d2b6e7f6979e38a9da43ff5830697c966aea1a17e8388bda504124b",
            "weights that existed before the run",
        ),
        (
            "12c3d773619ebd4039483c9698874e836f81ad77c0c5651864289998fda7c787",
            "weights that existed before the run",
        ),
        # The first image after that, and the last of each kind whose reports lacked texts.
        (
            "a3892067d52cc87493a9c7b9384fc9633e39a9ab57632810395a2d5f6b25ffb8",
            "trained on text from no input",
        ),
        (
            "4d0680f9d54ecbe7d091f4ed3e95a634b97bd026557043a10fbe19c06f079d20",
            "trained on text from no input",
        ),
        (
            "2317dfcf2075c66784cd3840103296f89644688dee7864463e827d4a01f5673a",
            "trained on text from no input",
        ),
        # The last image of each kind before each file in a model's folder had a single use.
        (
            "254654ad2c91adbefbd5875eb1df3c79a34c46228e118e17841785ea9c2aad9b",
            "an adapter that existed before the run",
        ),
        (
            "60900a4f3009d897b4886ae8b208234cbb1351ff1d471a60919a159f6f649b5e",
            "an adapter that existed before the run",
        ),
    ],
)
def test_images_that_certify_what_they_must_not_are_revoked(known: str, reason: str) -> None:
    assert reason in (revoked_images.why_revoked(bytes.fromhex(known)) or "")
    assert revoked_images.why_revoked(bytes.fromhex(known)[::-1]) is None


def test_outputs_that_the_lockfile_does_not_declare_are_named() -> None:
    scene = Scene()
    scene.edit("statement", lambda s: replace(s, outputs=s.outputs | {"z": s.outputs["model"]}))
    assert scene.appraise().check("statement.form").detail == (
        "the statement contradicts what was verified: outputs\n"
        "found     \"('model', 'z')\"\nexpected  \"('model',)\""
    )


def test_of_what_differs_the_start_is_shown() -> None:
    scene = Scene()
    many = tuple(f"output-{number:03}" for number in range(30))
    scene.edit("lockfile", lambda locked: replace(locked, outputs=("model", *many)))
    outputs = scene.get("statement").outputs
    scene.edit("statement", lambda s: replace(s, outputs={"x": outputs["model"]}))
    assert scene.appraise().check("statement.form").detail == (
        "the statement contradicts what was verified: outputs\n"
        f"found     \"('x',)\"\nexpected  {str(('model', *many))[:200]!a}"
    )
    scene.edit("statement", lambda s: replace(s, outputs=dict.fromkeys(many, outputs["model"])))
    scene.edit("lockfile", lambda locked: replace(locked, outputs=("model",)))
    assert scene.appraise().check("statement.form").detail == (
        "the statement contradicts what was verified: outputs\n"
        f"found     {str(many)[:200]!a}\nexpected  \"('model',)\""
    )


def test_each_input_that_somebody_signed_is_named_in_a_line_of_its_own() -> None:
    def signed(lockfile: Lockfile) -> Lockfile:
        return replace(
            lockfile, inputs=tuple(replace(item, signed_by=SIGNER) for item in lockfile.inputs)
        )

    scene = Scene().edit("lockfile", signed)
    names = [item.name for item in scene.get("lockfile").inputs]
    assert len(names) > 1
    scene.edit("report", lambda report: replace(report, signers=tuple((n, SIGNER) for n in names)))
    detail = scene.appraise().check("statement.form").detail
    assert detail.splitlines()[1:] == [f"input {name} signed by {SIGNER}" for name in names]


def test_a_result_says_when_and_of_what_it_is() -> None:
    scene = Scene()
    statement = scene.get("statement")
    result = scene.appraise()
    assert (result.at, result.finished) == (stamp(scene.at), statement.finished)
    assert (result.run, result.lockfile) == (statement.run, str(statement.lockfile))
    assert result.subject == {name: str(out.digest) for name, out in statement.outputs.items()}


@pytest.mark.parametrize(("pcr", "check"), [(8, "outputs.pcr8"), (14, "inputs.pcr14")])
def test_a_result_only_shows_what_was_measured(pcr: int, check: str) -> None:
    scene = Scene()
    result = scene.edit("pcrs", lambda pcrs: pcrs | {pcr: b"\x01" * 32}).appraise()
    assert [one.id for one in result.failed] == [check]
    assert (result.subject is None, result.lockfile is None) == (pcr == 8, pcr == 14)
    assert (result.run, result.finished) == ("tiny", scene.get("statement").finished)


def test_what_booted_is_judged_unless_both_sides_are_software() -> None:
    asked = Scene("cloud").edit("policy", lambda policy: replace(policy, tier="software"))
    result = asked.appraise()
    assert {result.check(one).verdict for one in BOOT_CHECKS} == {"ok"}
    weak = Scene().edit("policy", lambda policy: replace(policy, tier="vtpm"))
    result = weak.appraise()
    assert result.failed[0].id == "platform.tier"
    assert {result.check(one).verdict for one in BOOT_CHECKS} == {"not-checked"}


def test_a_register_that_no_reference_value_names_is_told() -> None:
    scene = Scene("cloud")
    values = {index: value for index, value in FIRMWARE.items() if index != 1}
    firmware = (Firmware(name="test firmware", pcrs=values),)
    omission = "what PCRs {} hold: they are quoted but not compared"
    assert omission.format("5, 6, 9, 10, 15") in scene.appraise().omits
    scene.edit("policy", lambda policy: replace(policy, firmware=firmware))
    result = scene.appraise()
    assert result.verdict == "passed"
    assert omission.format("1, 5, 6, 9, 10, 15") in result.omits
    assert sorted(result.quoted) == [1, 5, 6, 9, 10, 15]


def test_a_run_may_take_no_time_by_the_tpms_clock() -> None:
    scene = Scene("local", 2)
    certified(clock=1000)(scene)
    check = scene.appraise().check("runkey.time")
    assert (check.verdict, check.detail.split(",")[0]) == ("ok", "0.000 s by the TPM's clock")


def test_timestamps_that_nobody_reads_are_listed_as_that() -> None:
    scene = Scene()
    assert not [line for line in scene.appraise().omits if "timestamps" in line]
    scene.edit_evidence(timestamps=("AAAA", "BBBB"))
    result = scene.appraise()
    assert result.verdict == "passed"
    assert result.omits[-1] == "evidence.timestamps (2): no check under this policy reads them"
