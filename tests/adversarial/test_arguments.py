"""A wrong argument gives a full message with a command to paste, and no verdict."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import AicertError, ConfigError, EvidenceError, RejectedError
from aicert.formats.digest import Digest
from aicert.trust.built_in import built_in
from aicert.verifier import verify
from tests.adversarial import ca_forge
from tests.adversarial.forger import NONCE, Scene
from tests.adversarial.test_lineage import scene
from tests.unit.aicert.cli.test_main import AT, lay_out
from tests.unit.aicert.formats.test_image_lock import written

LOCAL = Scene().get("policy")
NOWHERE = "No such file or directory"
OPENSSL = "openssl rand -hex 32"


def error_of(call: Callable[[], object], kind: type[AicertError]) -> tuple[str, str | None]:
    with pytest.raises(kind) as caught:
        call()
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("call", "message", "hint"),
    [
        (lambda: verify.expected_nonce("ab"), "a nonce is 64 hexadecimal digits", OPENSSL),
        (lambda: verify.expected_nonce(b"short"), "a nonce has 32 bytes", OPENSSL),
        (
            lambda: verify.expected_lockfile("sha256:" + "x" * 100),
            f"not a lockfile digest: 'sha256:{'x' * 73}'",
            None,
        ),
        (
            lambda: verify.expected_lockfile("/no"),
            f"cannot read lockfile '/no': {NOWHERE}",
            "--lockfile lockfiles/RUN.lock.toml",
        ),
        (
            lambda: verify.choose_policy("locl"),
            (
                "no policy 'locl': neither a file nor one of "
                "default, confidential, confidential-gpu, google, local, qemu"
            ),
            "--policy local",
        ),
        (
            lambda: verify.choose_policy("best"),
            (
                "no policy 'best': neither a file nor one of "
                "default, confidential, confidential-gpu, google, local, qemu"
            ),
            None,
        ),
        (
            lambda: verify.choose_policy("local", root="/no"),
            f"cannot read root '/no': {NOWHERE}",
            None,
        ),
        (
            lambda: verify.choose_policy("local", image="/no"),
            f"cannot read image lock '/no': {NOWHERE}",
            None,
        ),
        (
            lambda: verify.choose_policy("local"),
            "policy local names no platform root",
            "--root PEM: the maker's checkout has it at .aicert/ca/local.pem",
        ),
        (
            lambda: verify.time_of_appraisal("x" * 50),
            f"not a time with a zone: '{'x' * 40}'",
            "--at 2026-08-21T09:14:07Z",
        ),
        (
            lambda: verify.time_of_appraisal(datetime(2026, 1, 1)),  # noqa: DTZ001 - refused for that
            "not a time with a zone: '2026-01-01 00:00:00'",
            "--at 2026-08-21T09:14:07Z",
        ),
        (
            lambda: verify.check_files("c", "", policy=LOCAL, at=AT),
            "MODEL_DIR is empty",
            "name the model's directory",
        ),
    ],
)
def test_a_wrong_argument_is_named(
    call: Callable[[], object], message: str, hint: str | None
) -> None:
    assert error_of(call, ConfigError) == (message, hint)


def test_a_wrong_root_or_image_is_named_with_its_path(tmp_path: Path) -> None:
    root, image = tmp_path / "root.pem", tmp_path / "image.lock.toml"
    root.write_bytes(b"none")
    message, hint = error_of(lambda: verify.choose_policy("local", root=root), ConfigError)
    assert message == f"{root} is not one PEM certificate"
    assert hint == "name a file with one -----BEGIN CERTIFICATE----- and its end"
    image.write_bytes(written() + b"\n")
    message, hint = error_of(lambda: verify.choose_policy(LOCAL, image=image), ConfigError)
    assert (message, hint) == ("image lock is not in canonical form", "./doit image")


@pytest.mark.parametrize(
    "read", [verify.read_certificate, lambda path: verify.read_lineage([path])]
)
def test_a_missing_certificate_is_named(read: Callable[[str], object]) -> None:
    message, _ = error_of(lambda: read("/no"), EvidenceError)
    assert message == f"cannot read certificate '/no': {NOWHERE}"


def test_times_and_nonces_in_their_forms() -> None:
    zone = timezone(timedelta(hours=2))
    given = datetime(2026, 1, 1, 2, tzinfo=zone)
    for at in (given, "2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00Z"):
        instant = verify.time_of_appraisal(at)
        assert instant == given
        # And not this machine's time zone, which would do here as well.
        assert instant.tzinfo is UTC
    before = datetime.now(UTC)
    assert before <= verify.time_of_appraisal(None) <= datetime.now(UTC)
    assert verify.expected_nonce(None) is None
    for nonce in (NONCE, NONCE.hex(), NONCE.hex().upper()):
        assert verify.expected_nonce(nonce) == NONCE


def test_lockfiles_in_their_forms(tmp_path: Path) -> None:
    digest = Digest("sha256", "ab" * 32)
    assert verify.expected_lockfile(None) is None
    assert verify.expected_lockfile(digest) is digest
    assert verify.expected_lockfile(str(digest)) == digest
    lockfile = tmp_path / "l.toml"
    lockfile.write_bytes(Scene().get("lockfile_bytes"))
    assert verify.expected_lockfile(lockfile) == Scene().get("statement").lockfile


def test_policies_in_their_forms(tmp_path: Path) -> None:
    assert verify.choose_policy(LOCAL) is LOCAL
    (tmp_path / "root.pem").write_bytes(ca_forge.pem(Scene().get("root")))
    (tmp_path / "p.toml").write_text('extends = "local"\nname = "mine"\n')
    for policy, name in (("local", "local"), (str(tmp_path / "p.toml"), "mine")):
        chosen = verify.choose_policy(policy, root=tmp_path / "root.pem")
        assert (chosen.name, [root.name for root in chosen.roots]) == (name, ["simulated:local"])
    (tmp_path / "image.lock.toml").write_bytes(written())
    chosen = verify.choose_policy(built_in("default"), image=tmp_path / "image.lock.toml")
    assert list(chosen.images) == list(chosen.accepted)


def test_the_model_is_read_with_a_listener_and_everything_given_counts(tmp_path: Path) -> None:
    folder = lay_out(Scene(), tmp_path)
    heard: list[int] = []
    sizes = [path.stat().st_size for path in (folder / "model").iterdir()]

    def check(**given: Any) -> str:
        result = verify.check_files(
            folder / "c.json", folder / "model", policy=LOCAL, at=AT, on_bytes=heard.append, **given
        )
        return verify.require_passed(result).check("quote.nonce").detail

    assert check() == "binds nonce, run key and statement (not fresh: you gave no nonce)"
    assert sorted(heard) == sorted(sizes)
    assert check(nonce=NONCE.hex()) == "binds nonce, run key and statement (your nonce)"
    with pytest.raises(RejectedError) as rejected:
        check(nonce="00" * 32)
    first = "the certificate answers a different nonce"
    assert rejected.value.message.startswith(f"quote.nonce: {first}\nfound     ")
    assert rejected.value.hint is None
    with pytest.raises(
        RejectedError, match=r"^inputs\.lockfile: the certificate is for a " r"different"
    ):
        check(lockfile="sha256:" + "0" * 64)


def test_ancestors_are_looked_for_where_they_are_given(tmp_path: Path) -> None:
    for name, forged in (("ancestor", scene("a")), ("judged", scene("w", "a"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "certificate.json").write_bytes(forged.get("file"))
    judged = tmp_path / "judged" / "certificate.json"
    for lineage, verdict in (
        (None, "not-checked"),
        ([], "failed"),
        ([judged], "failed"),
        ([tmp_path], "ok"),
    ):
        result = verify.check_files(judged, None, policy=LOCAL, at=AT, lineage=lineage)
        assert result.check("lineage.ancestors").verdict == verdict


def test_a_rejection_has_the_hint_of_the_first_failed_check() -> None:
    passed = Scene().appraise()
    hint = "compare the lockfiles"
    failed = [replace(one, verdict="failed", hint=hint) for one in passed.checks[:2]]
    failed[1] = replace(failed[1], hint="another")
    result = replace(passed, checks=(*failed, *passed.checks[2:]))
    message, hinted = error_of(lambda: verify.require_passed(result), RejectedError)
    assert (message, hinted) == (f"{failed[0].id}: {failed[0].detail}", hint)


def test_no_verdict_says_the_first_three_reasons() -> None:
    scene = Scene("cloud")
    scene.with_model = False
    scene.put("image_lock", None)
    result = scene.appraise()
    message, _ = error_of(lambda: verify.require_passed(result), verify.NoVerdictError)
    reasons = [f"{check.id}: {check.detail}" for check in result.undecided]
    assert len(reasons) > 3
    assert message == "no verdict: " + "; ".join(reasons[:3])


def test_a_policy_that_is_a_folder_is_named(tmp_path: Path) -> None:
    message, _ = error_of(lambda: verify.choose_policy(str(tmp_path)), ConfigError)
    assert message == f"{tmp_path}: cannot read {tmp_path}: Is a directory"
