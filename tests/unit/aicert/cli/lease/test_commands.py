"""`aicert lease`: a custodian's commands, from a certificate to receipts that add up."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aicert.cli import main
from aicert.formats import statement as statements
from aicert.lease import answer_receipts, blob, custody, enrolment, licence, orders, receipts, terms
from aicert.lease.receipts import Usage
from aicert.lease.terms import Terms
from tests.adversarial import ca_forge
from tests.adversarial.attacks_convert import convert
from tests.adversarial.attacks_quantise import quantise
from tests.adversarial.attacks_results import RESULTS, Change, audit
from tests.adversarial.enrolment_forge import CA, NONCE, RECEIPTS, Scene, ak_certificate
from tests.unit.aicert.cli.test_main import AT, lay_out
from tests.unit.aicert.lease import forge
from tests.unit.aicert.lease.test_answer_receipts import KEY, TOKEN, receipt
from tests.unit.aicert.lease.test_orders import bare
from tests.unit.signing_keys import Printed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "enrol-root.pem").write_bytes(
        ca_forge.pem(ca_forge.root("enrol ca", CA, driver="local"))
    )
    return lay_out(certified(), tmp_path)


def certified() -> Any:
    from tests.adversarial.forger import Scene as Certified

    return Certified()


def pack(folder: Path, *more: str) -> int:
    words = ["lease", "pack", str(folder / "c.json"), str(folder / "model")]
    words += ["-o", str(folder / "bot"), "--policy", "local", "--at", AT]
    return main.main([*words, "--root", str(folder / "root.pem"), *more])


def agreed(folder: Path) -> Terms:
    return terms.parse((folder / "bot/terms.toml").read_bytes())


def scene(folder: Path) -> Scene:
    """Return a machine's enrolment for the packed lease, on a platform that measures nothing."""
    of = agreed(folder)
    values = dict.fromkeys(range(16), bytes(32))
    chain = (ak_certificate(driver="local"),)
    return Scene(lease=of.lease, terms=of.digest, chain=chain, values=values)


def enrol(folder: Path, shown: Scene | None = None) -> Scene:
    shown = shown or scene(folder)
    (folder / "enrolment.json").write_bytes(enrolment.emit(shown.signed()))
    return shown


def judge(folder: Path, *words: str) -> int:
    root = ["--policy", "local", "--root", str(folder / "enrol-root.pem"), "--at", AT]
    return main.main(["lease", *words, "--lease", str(folder / "bot"), *root])


def issue(folder: Path, *more: str) -> int:
    words = ["issue", str(folder / "enrolment.json"), "-o", str(folder / "issued")]
    return judge(folder, *words, "--budget", "5M", "--until", "30d", *more)


def count(folder: Path, *more: str) -> int:
    words = ["receipts", str(folder / "receipts.jsonl"), *more]
    return judge(folder, *words, "--enrolment", str(folder / "enrolment.json"))


def test_pack_says_what_it_wrote(folder: Path, printed: Printed) -> None:
    assert pack(folder) == 0
    out, err = printed()
    of = agreed(folder)
    size = sum(path.stat().st_size for path in (folder / "model").iterdir())
    files, paid = len(list((folder / "model").iterdir())), -(-size // 16)
    assert out == (
        "PASSED    tier software (the operator could have forged this), policy local\n"
        f"lease     {of.lease}\nterms     {of.digest}\nmodel     {of.model}, {files} files, "
        f"{size:,} bytes\n"
        f"egress    answers to {paid:,} paid tokens carry as many bytes as the model has\n"
        f"bundle    {folder}/bot\n"
        f"keys      {folder}/bot.keys: whoever has this file has the model\n"
    )
    assert err == ""
    outputs = statements.parse(certified().get("payload")).outputs
    assert (of.key, of.tick_tokens, of.routes) == ("split", 1000, terms.ROUTES)
    assert set(outputs) == {"model"}


def test_pack_takes_the_terms_and_speaks_json(folder: Path, printed: Printed) -> None:
    more = ["--offline", "--tick-tokens", "10", "--heartbeat-seconds", "5", "--format", "json"]
    assert pack(folder, *more) == 0
    document = json.loads(printed()[0])
    of = agreed(folder)
    assert (of.key, of.tick_tokens, of.heartbeat_seconds) == ("tpm", 10, 5)
    assert (document["lease"], document["model"]) == (of.lease, str(of.model))
    assert document["keys"] == str(folder / "bot.keys")


def test_pack_of_a_model_that_does_not_pass_writes_nothing(folder: Path, printed: Printed) -> None:
    (folder / "model" / "added.bin").write_bytes(b"x")
    assert pack(folder) == 1
    assert "FAILED  subject.files" in printed()[0]
    assert not (folder / "bot").exists()
    assert not (folder / "bot.keys").exists()


def test_pack_of_results_of_an_audit_writes_nothing(folder: Path, printed: Printed) -> None:
    """The results are certified, but they are not a model."""
    results = certified()
    results.version = 2
    audit()(results)
    (folder / "c.json").write_bytes(results.get("file"))
    for path in (folder / "model").iterdir():
        path.unlink()
    (folder / "model" / "results.json").write_bytes(RESULTS["results.json"])
    assert pack(folder) == 1
    assert "the certificate is not for a model: its kind is audit" in printed()[1]
    assert not (folder / "bot").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [(quantise, "a quantised model: its engine lacks"), (convert, "a GGUF file: its engine loads")],
)
def test_pack_of_a_model_that_no_engine_loads_writes_nothing(
    change: Callable[[], Change], what: str, tmp_path: Path, printed: Printed
) -> None:
    """No engine could load it."""
    derived = certified()
    derived.version = 2
    change()(derived)
    folder = lay_out(derived, tmp_path)
    assert pack(folder) == 3
    assert f"no serving machine can load {what}" in printed()[1]
    assert not (folder / "bot").exists()


def test_terms_that_cannot_be(folder: Path, printed: Printed) -> None:
    assert pack(folder, "--tick-tokens", "0") == 2
    assert "tick-tokens is not from 1 to 1048576" in printed()[1]
    assert not (folder / "bot").exists()


def test_issue_writes_what_the_machine_opens(folder: Path, printed: Printed) -> None:
    pack(folder)
    enrol(folder)
    printed()
    assert issue(folder, "--nonce", NONCE.hex()) == 0
    assert printed()[0] == (
        "machine   tier software (the operator could have forged this), root simulated:local, "
        "image none\n"
        "budget    5,000,000 tokens: meter 10 to 5010\n"
        "until     30d of running time, in this boot and 1 boot more\n"
        f"wrote     {folder}/issued/licence, {folder}/issued/blob\n"
        "Omits     the broker's half of the key, without which the machine opens nothing\n"
    )
    given = licence.parse((folder / "issued/licence").read_bytes())
    kept = custody.parse((folder / "bot.keys").read_bytes())
    zero = dict.fromkeys(licence.LICENCE_PCRS, bytes(32))
    licence.verify(given, kept.key.public_key(), zero)
    blob.parse((folder / "issued/blob").read_bytes())
    # The command replaces no file and writes nothing beside the existing ones.
    (folder / "issued/licence").unlink()
    assert issue(folder) == 3
    assert not (folder / "issued/licence").exists()
    assert "already exists" in printed()[1]


def test_issue_speaks_json(folder: Path, printed: Printed) -> None:
    pack(folder)
    enrol(folder)
    printed()
    assert issue(folder, "--format", "json", "--boots", "0") == 0
    document = json.loads(printed()[0])
    assert (document["tier"], document["image"]) == ("software", "none")
    assert (document["meter"], document["budget"], document["epoch"]) == (10, 5010, 3)


def test_an_offline_lease_says_what_it_omits(folder: Path, printed: Printed) -> None:
    pack(folder, "--offline")
    assert "\nOmits     offline: whoever can restore the TPM's state" in printed()[0]
    enrol(folder)
    assert issue(folder) == 3
    assert "aicert lease issue --offline" in printed()[1]
    assert issue(folder, "--offline") == 0
    assert "\nOmits     offline: whoever can restore the TPM's state" in printed()[0]


def test_a_machine_that_is_refused_gets_nothing(folder: Path, printed: Printed) -> None:
    pack(folder)
    shown = scene(folder)
    shown.values[11] = b"\xee" * 32
    enrol(folder, shown)
    assert issue(folder) == 1
    assert "error: enrol.image: PCR 11 of a software platform is not zero" in printed()[1]
    assert issue(folder, "--format", "json") == 1
    assert json.loads(printed()[0])["verdict"] == "failed"
    assert not (folder / "issued").exists()
    assert issue(folder, "--nonce", "00" * 32) == 1
    (folder / "enrolment.json").write_bytes(b"{}")
    assert issue(folder) == 2
    assert issue(folder, "--boots", "-1") == 3
    assert issue(folder, "--until", "30") == 3


def test_where_nothing_can_be_written(folder: Path, printed: Printed) -> None:
    pack(folder)
    enrol(folder)
    (folder / "issued").write_bytes(b"a file")
    assert issue(folder) == 2
    words = ["issue", str(folder / "enrolment.json"), "-o", str(folder / "none/issued")]
    assert judge(folder, *words, "--budget", "5M", "--until", "30d") == 2
    assert "cannot write" in printed()[1]


def receipted(folder: Path, *usages: Usage, value: int = 12, boot: str = "b0" * 32) -> list[bytes]:
    """Return lines of receipts that the enrolled machine signed."""
    of = agreed(folder)
    signer = receipts.check_receipt_key(
        enrolment.parse((folder / "enrolment.json").read_bytes()).receipt_key.public,
        dict.fromkeys(licence.RECEIPT_PCRS, bytes(32)),
    ).qualified_name
    previous, lines = of.digest.hex, []
    for seq, usage in enumerate(usages, 1):
        body = receipts.emit_heartbeat(
            forge.heartbeat(lease=of.lease, seq=seq, previous=previous, usage=usage, boot=boot)
        )
        signed = forge.receipt(body, value, key=RECEIPTS, signer=signer)
        lines.append(receipts.emit(signed) + b"\n")
        previous = receipts.digest(signed).hex
    order = orders.emit_order(bare(orders.REVOKE, lease=of.lease, terms=of.digest))
    kill = forge.receipt(order, 4, index=licence.EPOCH_INDEX, key=RECEIPTS, signer=signer)
    return [*lines, receipts.emit(kill) + b"\n"]


def test_receipts_add_up(folder: Path, printed: Printed) -> None:
    pack(folder)
    enrol(folder)
    *lines, kill = receipted(
        folder,
        Usage(tokens_in=900, tokens_out=100, requests=1, ticks=1),
        Usage(tokens_in=1000, tokens_out=200, tokens_refused=5, requests=2, ticks=2),
    )
    (folder / "receipts.jsonl").write_bytes(b"".join(lines))
    printed()
    assert count(folder) == 0
    assert printed()[0] == (
        f"lease     {agreed(folder).lease}\n"
        "machine   tier software (the operator could have forged this), root simulated:local\n"
        "receipts  2 in a row, of 1 boot\n"
        "tokens    1,000 in, 200 out, 5 refused, of 2 requests\n"
        "meter     10 to 12, 2 ticks of 1000 tokens receipted\n"
        "ended     no kill receipt is here\n"
        "Omits     what was served after the last receipt here\n"
    )
    (folder / "more.jsonl").write_bytes(lines[0] + kill)
    assert count(folder, str(folder / "more.jsonl")) == 0
    assert "\nended     by order revoke: the epoch is 4 since\n" in printed()[0]
    assert count(folder, str(folder / "more.jsonl"), "--format", "json") == 0
    document = json.loads(printed()[0])
    assert document["tokens"] == {"in": 1000, "out": 200, "refused": 5}
    assert document["meter"] == {"first": 10, "last": 12}
    assert document["ended"] == {"order": "revoke", "epoch": 4}


def test_receipts_as_a_table_whose_columns_add_up(folder: Path, printed: Printed) -> None:
    pack(folder)
    enrol(folder)
    usages = (
        Usage(tokens_in=900, tokens_out=100, requests=1, ticks=1),
        Usage(tokens_in=1000, tokens_out=200, tokens_refused=5, requests=2, ticks=2),
    )
    *lines, _ = receipted(folder, *usages)
    (folder / "receipts.jsonl").write_bytes(b"".join(reversed(lines)))
    printed()
    assert count(folder, "--format", "csv") == 0
    rows = list(csv.DictReader(printed()[0].splitlines()))
    assert [row["receipt"] for row in rows] == ["1", "2"]
    assert [row["meter"] for row in rows] == ["12", "12"]
    assert {len(row["boot"]) for row in rows} == {64}
    for column, total in (
        ("tokens-in", 1000), ("tokens-out", 200), ("tokens-refused", 5), ("requests", 2),
        ("ticks", 2),
    ):  # fmt: skip
        assert sum(int(row[column]) for row in rows) == total
    # A gap is refused in every output format.
    (folder / "receipts.jsonl").write_bytes(lines[1])
    assert count(folder, "--format", "csv") == 1
    out, err = printed()
    assert (out, err.startswith("error: ledger.successor: ")) == ("", True)


def test_receipts_that_do_not_add_up(folder: Path, printed: Printed) -> None:
    pack(folder)
    enrol(folder)
    lines = receipted(folder, Usage(), Usage())
    (folder / "receipts.jsonl").write_bytes(lines[1])
    assert count(folder, "--format", "json") == 1
    out, err = printed()
    assert json.loads(out[out.index("{") :])["verdict"] == "failed"
    assert "error: ledger.successor: receipt 2 follows none of those here" in err
    (folder / "receipts.jsonl").write_bytes(b"{}\n")
    assert count(folder) == 2
    (folder / "receipts.jsonl").write_bytes(lines[0])
    assert count(folder, "--format", "json") == 0
    assert json.loads(printed()[0])["ended"] is None


def test_keys_of_another_lease_issue_nothing(folder: Path, printed: Printed) -> None:
    pack(folder)
    enrol(folder)
    (folder / "bot.keys").write_bytes(custody.emit(custody.drawn(offline=False)))
    assert issue(folder) == 3
    assert "are for different leases" in printed()[1]


def test_receipts_of_answers_are_checked_with_them(folder: Path, printed: Printed) -> None:
    pack(folder)
    enrol(folder)
    boot = answer_receipts.verify(TOKEN).boot
    usage = Usage(tokens_in=900, tokens_out=100, requests=1, ticks=1)
    *lines, _ = receipted(folder, usage, boot=boot)
    (folder / "receipts.jsonl").write_bytes(b"".join(lines))
    of = agreed(folder)
    held = receipt(lease=of.lease, terms=of.digest, model=of.model)
    token = answer_receipts.sign(KEY, held)
    (folder / "answers").write_text(answer_receipts.to_text(token) + "\n")
    printed()
    more = ("--answers", str(folder / "answers"))
    assert count(folder, *more) == 0
    line = "answers   1 receipt that clients hold, each of a boot of these: 7 tokens in, 3 out\n"
    assert line in printed()[0]
    assert count(folder, "--format", "json", *more) == 0
    answers = {"receipts": 1, "tokensIn": 7, "tokensOut": 3}
    assert json.loads(printed()[0])["answers"] == answers
    (folder / "answers").write_text(answer_receipts.to_text(TOKEN) + "\n")
    assert count(folder, *more) == 1
    assert "error: answer.body: " in printed()[1]
