"""`signed-by`: the key that must have signed an input, checked in the machine and at lock time."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from aicert.cli.main import main
from aicert.errors import ConfigError, EvidenceError, LockError
from aicert.files.tree import read_tree
from aicert.formats import lockfile
from aicert.formats.digest import of_bytes
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import LockedInput, Lockfile
from aicert.model_signature import signed_by, writer
from aicert.signing.keys import key_signer
from enclave_runner.inputs import measure
from rules.project import config, lock, locked
from tests.unit.signing_keys import Pair, pair


@pytest.fixture
def model(tmp_path: Path, keys: Pair) -> Path:
    root = tmp_path / "in" / "model"
    (root / "sub").mkdir(parents=True)
    (root / "config.json").write_bytes(b"{}")
    (root / "sub" / "w.safetensors").write_bytes(b"weights")
    assert main(["sign", str(root), "--key", str(keys.key)]) == 0
    return root


def text_of(keys: Pair) -> str:
    return signed_by.key_text(keys.private.public_key())


def check(model: Path, key: str) -> None:
    files = {path: fact.sha256 for path, fact in read_tree(model).items()}
    signed_by.check(key, files, model / signed_by.SIGNATURE)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_signed_input_is_accepted_by_its_key_alone(
    tmp_path: Path, model: Path, curve: ec.EllipticCurve
) -> None:
    keys, other = pair(tmp_path, "own", curve), pair(tmp_path, "other", curve)
    assert main(["sign", str(model), "--key", str(keys.key)]) == 0
    lockfile.check_signer("here", text_of(keys))
    check(model, text_of(keys))
    with pytest.raises(EvidenceError, match="not signed by"):
        check(model, text_of(other))


def test_a_key_on_another_curve_has_no_text() -> None:
    with pytest.raises(EvidenceError, match="cannot sign models"):
        signed_by.key_text(ec.generate_private_key(ec.SECP256K1()).public_key())


def test_some_of_the_signed_files_are_enough(model: Path, keys: Pair) -> None:
    (model / "config.json").unlink()
    check(model, text_of(keys))


def swap(model: Path) -> None:
    one, other = model / "config.json", model / "sub" / "w.safetensors"
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: (m / "config.json").write_bytes(b"[]"), "'config.json' is not the file"),
        (lambda m: (m / "model.py").write_bytes(b""), "'model.py' is not among the files"),
        # Signatures leave git's files out, so this signed folder must have none.
        (lambda m: (m / ".gitattributes").write_bytes(b""), "'.gitattributes' is not among"),
        (swap, "is not the file that was signed"),
        (lambda m: (m / "model.sig").unlink(), "needs a directory with its signature"),
        (lambda m: (m / "model.sig").write_bytes(b"{}"), "signature"),
    ],
)
def test_what_was_not_signed_is_refused(
    model: Path, keys: Pair, change: Callable[[Path], object], message: str
) -> None:
    change(model)
    with pytest.raises(EvidenceError, match=message):
        check(model, text_of(keys))


def test_a_key_that_is_no_point_is_refused(model: Path) -> None:
    with pytest.raises(EvidenceError, match="not a point on its curve"):
        check(model, "p256:02" + "ff" * 32)


def test_the_signature_that_was_hashed_is_the_one_that_is_read(model: Path, keys: Pair) -> None:
    files = {path: fact.sha256 for path, fact in read_tree(model).items()}
    (model / "model.sig").write_bytes((model / "model.sig").read_bytes() + b"\n")
    with pytest.raises(EvidenceError, match="changed while it was read"):
        signed_by.check(text_of(keys), files, model / "model.sig")


def test_parts_of_files_and_other_hashes_do_not_count(model: Path, keys: Pair) -> None:
    files = {path: fact.sha256 for path, fact in read_tree(model).items()}
    statement = json.loads(writer.statement("model", files))
    statement["predicate"]["serialization"]["method"] = "shards"
    for resource in statement["predicate"]["resources"]:
        resource["name"] += ":0:1"
    signer = key_signer(keys.private)
    (model / "model.sig").write_bytes(signer.bundle(json.dumps(statement).encode()))
    with pytest.raises(EvidenceError, match="does not sign whole files"):
        check(model, text_of(keys))


def measured(model: Path, key: str | None) -> tuple[LockedInput, measure.MeasuredInput]:
    files = read_tree(model)
    item = LockedInput(
        name="model",
        source="path:in/model",
        uri="path:in/model",
        size=sum(fact.size for fact in files.values()),
        digest=dir_digest(files),
        signed_by=key,
    )
    config_file = model.parent / "c.yml"
    config_file.write_bytes(b"")
    locked = LockedInput(name="config", source="path:c", uri="path:c", size=0, digest=of_bytes(b""))
    locked_run = Lockfile(run="r", trainer="axolotl", outputs=("m",), inputs=(locked, item))
    paths = {"model": model, "config": config_file}
    return item, measure.measure(locked_run, paths, lambda _: None)[1]


def test_the_machine_refuses_what_the_locked_key_did_not_sign(
    tmp_path: Path, model: Path, keys: Pair
) -> None:
    measure.check_signer(*measured(model, text_of(keys)))
    measure.check_signer(*measured(model, None))
    with pytest.raises(LockError, match=r"input model: model\.sig is not signed by"):
        measure.check_signer(*measured(model, text_of(pair(tmp_path, "other"))))


TOML = """\
[runs.r]
config = "path:c.yml"
machine = "local"
outputs = ["m"]
[runs.r.inputs]
model = { from = "path:in/model", signed-by = "%s" }
[machines.local]
driver = "local"
"""


def the_run(root: Path, key: str) -> config.Run:
    (root / "c.yml").write_text("base_model: input:model\n")
    return config.parse(root, (TOML % key).encode()).run("r")


def test_lock_refuses_what_that_key_did_not_sign(tmp_path: Path, model: Path, keys: Pair) -> None:
    run = the_run(tmp_path, text_of(keys))
    assert lock.write(tmp_path, lock.resolve(tmp_path, run))
    written = lockfile.parse(locked.read(tmp_path, "r"))
    assert lockfile.signers(written) == (("model", text_of(keys)),)
    assert lock.current(tmp_path, run).data == locked.read(tmp_path, "r")
    other = the_run(tmp_path, text_of(pair(tmp_path, "other")))
    with pytest.raises(LockError, match=r"input model: model\.sig is not signed by"):
        lock.write(tmp_path, lock.resolve(tmp_path, other))
    # Another key in aicert.toml makes the lockfile stale before any file is read.
    with pytest.raises(LockError, match="stale: input model"):
        lock.current(tmp_path, other)
    (model / "config.json").write_bytes(b"[]")
    with pytest.raises(LockError, match=r"'config\.json' is not the file that was signed"):
        lock.write(tmp_path, lock.resolve(tmp_path, run))


def test_a_chosen_part_of_a_signed_directory_can_be_locked(
    tmp_path: Path, model: Path, keys: Pair
) -> None:
    (model / ".gitattributes").write_bytes(b"")
    text = TOML.replace("signed-by", 'except = [".gitattributes"], signed-by') % text_of(keys)
    the_run(tmp_path, text_of(keys))
    run = config.parse(tmp_path, text.encode()).run("r")
    lock.write(tmp_path, lock.resolve(tmp_path, run))


def test_a_signer_that_is_no_key_is_a_wrong_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"aicert.toml: runs.r.inputs.model: signed-by is no"):
        the_run(tmp_path, "me@example.com")


def test_verifying_a_signature_prints_the_text_of_the_key(
    model: Path, keys: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify-signature", str(model), "--key", str(keys.pub)]) == 0
    assert text_of(keys) in capsys.readouterr().out
