"""`aicert log …`, as a person types it."""

import json
from pathlib import Path
from typing import Any

import pytest

from aicert.cli.log import search
from aicert.cli.main import main
from aicert.errors import AicertError
from aicert.formats import certificate as certificates
from aicert.frozen import replace
from aicert.tlog import proofs
from aicert.tlog.entry import entry_of, parse
from aicert.tlog.notes import COSIGNATURE, VerifierKey
from tests.adversarial.attacks_run import ancestor
from tests.adversarial.forger import Scene
from tests.unit.sample_certificate import SOURCES, sample
from tests.vectors.generate import policy_files

ORIGIN = "log.example/models"
WITNESS = str(VerifierKey(name="w.example", algorithm=COSIGNATURE, public=bytes(32)))


class Desk:
    """A folder with a log, a certificate that passes `policy.toml`, and one that nobody signed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        scene = Scene("cloud", 2)
        self.good = place / "certificates/good.json"
        self.good.parent.mkdir()
        self.good.write_bytes(scene.get("file"))
        self.claim = place / "claim.json"
        self.claim.write_bytes(sample())
        for name, text in policy_files(scene.get("policy")).items():
            (place / name).write_text(text)
        self.policy = place / "policy.toml"
        self.log = place / "log"

    def run(self, *words: object) -> int:
        return main(["log", *map(str, words)])

    def entry(self, path: Path) -> Any:
        return parse(entry_of(certificates.parse(path.read_bytes())))


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    desk = Desk(tmp_path)
    assert desk.run("init", f"{desk.log}/", "--origin", ORIGIN) == 0
    assert desk.run("append", desk.log, desk.good, desk.claim) == 0
    capsys.readouterr()
    return desk


def output(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_log_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(tmp_path)
    assert desk.run("init", desk.log, "--origin", ORIGIN) == 0
    shown = capsys.readouterr().out
    assert (desk.log / "log.vkey").read_text().strip() in shown
    assert "log.key: keep it" in shown
    assert desk.run("append", desk.log, desk.good, desk.claim, desk.good) == 0
    assert "2 of 3 certificates" in capsys.readouterr().out
    assert desk.run("append", desk.log, desk.good) == 0
    assert "0 of 1 certificate, and already had 1 other" in capsys.readouterr().out
    assert desk.run("check", desk.log, "--format", "json") == 0
    assert output(capsys)["size"] == 2
    key = (desk.log / "log.vkey").read_text().strip()
    (desk.place / "kept").write_bytes((desk.log / "checkpoint").read_bytes())
    for more, words in (
        ([], "whose log it is"),
        (["--log-key", key], "whether others see"),
        (["--log-key", key, "--against", desk.place / "kept"], "what its entries say is true"),
    ):
        assert desk.run("check", desk.log, *more) == 0
        assert words in capsys.readouterr().out


def test_a_proof_goes_into_the_certificate(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    key = desk.place / "w.key"
    assert desk.run("witness", desk.log, "--key", key, "--create", "witness.example/1") == 0
    assert "witness.example/1+" in capsys.readouterr().out
    assert desk.run("prove", desk.log, desk.good, "-o", desk.place / "proof") == 0
    assert "none yet" in capsys.readouterr().out
    # A witness that used any key in its folder would cosign anybody's log.
    assert desk.run("witness", desk.log, "--key", key) == 3
    assert "has not seen 'log.example/models' yet" in capsys.readouterr().err
    log_key = (desk.log / "log.vkey").read_text().strip()
    assert desk.run("witness", desk.log, "--key", key, "--log-key", log_key) == 0
    assert "had never cosigned it" in capsys.readouterr().out
    assert desk.run("witness", desk.log, "--key", key) == 0
    assert "last cosigned it with 2 entries" in capsys.readouterr().out
    digest = certificates.core_digest(certificates.parse(desk.good.read_bytes()))
    for _ in range(2):
        assert desk.run("prove", desk.log, desk.good, "--into") == 0
        assert "cosigned  in the names of witness.example/1;" in capsys.readouterr().out
    stamped = certificates.parse(desk.good.read_bytes())
    # The same proof is added once, and leaves the digest unchanged.
    (stamp,) = stamped.evidence.timestamps
    assert certificates.core_digest(stamped) == digest
    assert proofs.parse(proofs.decode(stamp)).index == 0
    assert desk.run("find", desk.log, "--certificate", digest, "--format", "json") == 0
    assert [hit["index"] for hit in output(capsys)["hits"]] == [0]


def test_a_policy_that_asks_for_a_log_gets_it(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    w_key = desk.place / "w.key"
    assert desk.run("witness", desk.log, "--key", w_key, "--create", "witness.example/1") == 0
    witness = capsys.readouterr().out.rpartition("public")[2].strip()
    key = (desk.log / "log.vkey").read_text().strip()
    asking = desk.place / "asking.toml"
    tables = f'[[log]]\nname = "l"\nkey = "{key}"\n[[witness]]\nname = "w"\nkey = "{witness}"\n'
    asking.write_text(f'require = ["log"]\n{desk.policy.read_text()}{tables}')

    def verify() -> int:
        words = ["verify", str(desk.good), "--policy", str(asking), "--certificate-only"]
        return main([*words, "--format", "json"])

    def verdict(check: str) -> str:
        checks = output(capsys)["checks"]
        (one,) = [str(each["verdict"]) for each in checks if each["id"] == check]
        return one

    assert verify() == 2
    assert verdict("log.included") == "not-checked"
    # The certificate is in the log, and no witness has cosigned.
    assert desk.run("prove", desk.log, desk.good, "--into") == 0
    capsys.readouterr()
    assert verify() == 2
    checks = {each["id"]: each["verdict"] for each in output(capsys)["checks"]}
    assert (checks["log.included"], checks["log.witnessed"]) == ("ok", "not-checked")
    assert desk.run("witness", desk.log, "--key", w_key, "--log-key", key) == 0
    assert desk.run("prove", desk.log, desk.good, "--into") == 0
    capsys.readouterr()
    assert verify() == 0
    assert verdict("log.witnessed") == "ok"
    # A proof of another certificate does not prove this one.
    stamps = certificates.parse(desk.good.read_bytes()).evidence.timestamps
    proof = proofs.parse(proofs.decode(stamps[-1]))
    assert desk.run("prove", desk.log, desk.claim, "-o", desk.place / "other") == 0
    capsys.readouterr()
    assert proof.index != proofs.parse((desk.place / "other").read_bytes()).index
    certificate = certificates.parse(desk.good.read_bytes())
    foreign = proofs.encode((desk.place / "other").read_bytes())
    evidence = replace(certificate.evidence, timestamps=(foreign,))
    desk.good.write_bytes(certificates.emit(replace(certificate, evidence=evidence)))
    assert verify() == 1
    assert verdict("log.included") == "failed"


def test_a_certificate_has_room_for_so_many(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    certificate = certificates.parse(desk.good.read_bytes())
    evidence = replace(certificate.evidence, timestamps=("x",) * 8)
    desk.good.write_bytes(certificates.emit(replace(certificate, evidence=evidence)))
    assert desk.run("prove", desk.log, desk.good, "--into") == 2
    assert "already has 8 time stamps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["prove", "LOG", "GOOD"], 3, "-o FILE or --into"),
        (["prove", "LOG", "GOOD", "--into", "-o", "x"], 3, "-o FILE or --into"),
        (["prove", "LOG", "-", "--into"], 3, "name it"),
        (["prove", "LOG", "OTHER", "-o", "PLACE/p"], 1, "is not among"),
        (["prove", "LOG", "GOOD", "-o", "PLACE/none/p"], 2, "no such directory"),
        (["check", "LOG", "--log-key", "x"], 3, "--log-key: a verifier key"),
        (["check", "LOG", "--log-key", WITNESS], 3, "a witness's, not a log's"),
        (["append", "LOG", "GOOD", "POLICY"], 2, "policy.toml': certificate is not JSON"),
        (["append", "LOG", "PLACE/certificates"], 2, "certificates/*/certificate.json"),
        (["check", "PLACE"], 2, "log.vkey"),
        (["append", "PLACE", "GOOD"], 2, "cannot read key"),
        (["init", "LOG", "--origin", "another"], 3, "already"),
        (["init", "PLACE/new", "--origin", "a b"], 3, "key's name"),
        (["find", "LOG", "--input", "x"], 3, "not a digest"),
        (["find", "LOG", "--policy", "local"], 3, "give --certificates"),
        (
            ["find", "LOG", "--policy", "PLACE/policy.toml", "--certificates", "PLACE/none"],
            2,
            "cannot read",
        ),
        (["find", "LOG", "--policy", "lo", "--certificates", "PLACE"], 3, "no policy"),
        (["page", "LOG", "-o", "PLACE"], 2, "is a directory"),
        (["cosigned", "LOG", "PLACE/claim.json"], 2, "signed note"),
        (["witness", "LOG", "--key", "PLACE/log.key"], 3, "a log's key"),
        (["mirror", "PLACE", "PLACE/copy"], 2, "log.vkey"),
        (
            [
                "find",
                "LOG",
                "--policy",
                "PLACE/policy.toml",
                "--certificates",
                "PLACE",
                "--at",
                "x",
            ],
            3,
            "not a time",
        ),
    ],
)
def test_mistakes_are_named(
    desk: Desk, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk.place / "other.json").write_bytes(sample(sources=SOURCES | {"more": "path:more"}))
    names = {"LOG": desk.log, "GOOD": desk.good, "OTHER": desk.place / "other.json"}
    names["POLICY"] = desk.policy
    typed = [str(names.get(word, word)).replace("PLACE", str(desk.place)) for word in words]
    assert desk.run(*typed) == code
    assert message in capsys.readouterr().err


def test_a_mirror_is_checked_and_witnessed(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    copy, key, cosigned = desk.place / "copy", desk.place / "w.key", desk.place / "cosigned"
    for _ in range(2):
        assert desk.run("mirror", desk.log, copy) == 0
    assert "copied    0 entries" in capsys.readouterr().out
    assert desk.run("witness", copy, "--key", key, "--create", "w.example") == 0
    words = ["--key", key, "-o", cosigned, "--format", "json"]
    log_key = (desk.log / "log.vkey").read_text().strip()
    assert desk.run("witness", copy, *words, "--log-key", log_key) == 0
    capsys.readouterr()
    assert b"w.example" not in (desk.log / "checkpoint").read_bytes()
    assert desk.run("cosigned", desk.log, cosigned) == 0
    assert b"w.example" in (desk.log / "checkpoint").read_bytes()
    assert desk.run("witness", desk.log, "--key", key) == 0
    assert "with 2 entries" in capsys.readouterr().out
    # The operator starts a new log: everybody who kept a checkpoint sees it.
    (desk.log / "checkpoint").unlink()
    (desk.place / "log.key.last").unlink()
    assert desk.run("init", desk.log, "--origin", ORIGIN) == 0
    for words in (
        ["check", desk.log, "--against", cosigned],
        ["mirror", desk.log, copy],
        ["witness", desk.log, "--key", key],
    ):
        capsys.readouterr()
        assert desk.run(*words) == 1
        assert "rolled back" in capsys.readouterr().err


def test_what_verifies_is_verified_and_the_rest_is_a_claim(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk.place / "certificates/forged.json").write_bytes(desk.claim.read_bytes())
    (desk.place / "certificates/none.json").write_bytes(b"{}")
    odd = replace(certificates.parse(desk.good.read_bytes()), lockfile=b"odd")
    (desk.place / "certificates/odd.json").write_bytes(certificates.emit(odd))
    (desk.place / "certificates/run").mkdir()
    (desk.place / "certificates/run/certificate.json").write_bytes(desk.good.read_bytes())
    certified = ["--certificates", desk.good.parent, "--policy", desk.policy]
    assert desk.run("find", desk.log, *certified) == 0
    shown, complaints = capsys.readouterr()
    assert shown.count("verified  entry 0") == 1
    assert "tier vtpm" in shown
    assert shown.count("claim     entry 1") == 1
    assert "shows nothing" in shown
    assert "forged.json: " in complaints
    assert "none.json: " in complaints
    assert "odd.json: " in complaints
    base = desk.entry(desk.good).inputs[0]
    assert desk.run("find", desk.log, "--input", base.digest, "--format", "json", *certified) == 0
    document = output(capsys)
    assert [hit["verified"] is not None for hit in document["hits"]] == [True]
    assert "shows nothing" in document["omits"]
    assert desk.run("find", desk.log, "--input", "dirHash:" + "00" * 32) == 0
    assert "an empty result shows nothing" in capsys.readouterr().out
    page = desk.place / "log.html"
    assert desk.run("page", desk.log, "-o", page, *certified) == 0
    assert "2 entries, 1 of the log's verified" in capsys.readouterr().out
    assert page.read_text().count(">verified</span>") == 1


@pytest.mark.parametrize("limit", ["MAX_CERTIFICATES", "MAX_CERTIFICATE_BYTES"])
def test_a_folder_has_so_many_certificates(
    desk: Desk, limit: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, limit, 0)
    words = ["--certificates", desk.good.parent, "--policy", desk.policy]
    assert desk.run("find", desk.log, *words) == 2
    assert "more than 0" in capsys.readouterr().err


def test_what_was_made_from_another_run_is_verified_with_it(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene()
    ancestor(lambda _: None)(scene)
    folder = desk.place / "two"
    folder.mkdir()
    (folder / "later.json").write_bytes(scene.get("file"))
    assert scene.ancestors is not None
    (older,) = scene.ancestors
    for name, text in policy_files(scene.get("policy")).items():
        (folder / name).write_text(text)
    assert desk.run("append", desk.log, folder / "later.json") == 0
    words = ["--certificates", folder, "--policy", folder / "policy.toml"]
    assert desk.run("find", desk.log, *words) == 0
    assert "lineage" in capsys.readouterr().err
    (folder / "older.json").write_bytes(certificates.emit(older))
    assert desk.run("append", desk.log, folder / "older.json") == 0
    capsys.readouterr()
    assert desk.run("page", desk.log, "-o", folder / "log.html", *words) == 0
    assert "4 entries, 2 of the log's verified" in capsys.readouterr().out
    assert "What was made from what" in (folder / "log.html").read_text()


def test_many_hits_are_cut_and_odd_entries_are_named(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aicert.log import writer

    writer.append(desk.log, desk.place / "log.key", [b"axolotl"])
    monkeypatch.setattr(search, "MAX_SHOWN", 1)
    assert desk.run("find", desk.log) == 0
    shown = capsys.readouterr().out
    assert "and 1 more" in shown
    assert "1 entry with these texts" in shown


def test_hostile_words_are_shown_in_one_line(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    from aicert.log import writer
    from aicert.tlog.entry import emit

    entry = replace(desk.entry(desk.claim), run="r\x1b[2J\nverified  entry 9\u202e")
    writer.append(desk.log, desk.place / "log.key", [emit(entry)])
    assert desk.run("find", desk.log) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\nverified" not in shown


def test_errors_of_logs_are_typed() -> None:
    from aicert.log.errors import BrokenLogError

    assert issubclass(BrokenLogError, AicertError)
    assert BrokenLogError("x").exit_code == 1
