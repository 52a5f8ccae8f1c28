"""Exports, read by the libraries of the communities that defined their formats."""

import json
import shutil
from pathlib import Path

import pytest

from aicert.cli.main import main
from aicert.exports import facts, packages
from aicert.files.tree import read_tree
from aicert.formats import evaluation
from aicert.formats.digest import of_bytes
from aicert.formats.listing import dir_digest
from aicert.verifier.verify import read_certificate
from rules.host import training_env
from rules.runs.exports import has_signatures
from tests.e2e.conftest import Checkout
from tests.oracles import environment
from tests.unit.aicert.cli.test_main import AT, lay_out
from tests.unit.aicert.cli.verify.test_evaluations import give, results_of
from tests.unit.aicert.cli.verify.test_evidence import audit_scene, audited, put, trained
from tests.unit.sample_certificate import sample

pytestmark = pytest.mark.slow

CYCLONEDX = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.VERSION).validate_str(open(sys.argv[1]).read())
sys.exit(str(error) if error else 0)
"""
CYCLONEDX_1_6 = CYCLONEDX.replace("VERSION", "V1_6")
CYCLONEDX = CYCLONEDX.replace("VERSION", "V1_7")
SPDX = """
import sys
from spdx_python_model import v3_0_1 as spdx
objects = spdx.SHACLObjectSet()
with open(sys.argv[1], "rb") as file:
    spdx.JSONLDDeserializer().read(file, objects)
models = list(objects.foreach_type("ai_AIPackage"))
builds = list(objects.foreach_type("build_Build"))
boms = list(objects.foreach_type("software_Sbom"))
document = next(objects.foreach_type("SpdxDocument"))
assert document.rootElement == boms and len(boms) == 1 and boms[0].rootElement
sys.exit(0 if len(models) == 2 and len(builds) == 1 and not objects.missing_ids else "parts")
"""
IN_TOTO = """
import base64, json, sys
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.predicates.scai.v0 import scai_pb2
from in_toto_attestation.predicates.scai.v0.scai import AttributeReport
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

def statement(document):
    Statement.copy_from_pb(json_format.ParseDict(document, statement_pb2.Statement())).validate()
    return document["predicate"]

scai = statement(json.load(open(sys.argv[1] + "/scai.intoto.json")))
report = json_format.ParseDict(scai, scai_pb2.AttributeReport())
AttributeReport(list(report.attributes), report.producer).validate()
envelope = json.load(open(sys.argv[1] + "/provenance.intoto.jsonl"))
slsa = statement(json.loads(base64.b64decode(envelope["payload"])))
read = json_format.ParseDict(slsa, provenance_pb2.Provenance())
assert read.build_definition.build_type == "urn:aicert:build:run:v1"
"""
CROISSANT = """
import sys
from mlcroissant import Dataset
dataset = Dataset(sys.argv[1])
for file in dataset.metadata.distribution:
    print(file.name, file.content_size, file.sha256)
for warning in sorted(dataset.metadata.ctx.issues.warnings):
    print(warning)
"""


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    certificate = tmp_path / "certificate.json"
    certificate.write_bytes(sample())
    assert main(["export", str(certificate), str(tmp_path)]) == 0
    return tmp_path


def accepts(code: str, path: Path) -> bool:
    return environment.run(code, path).returncode == 0


def test_cyclonedx_validates_the_bill_of_materials(exported: Path) -> None:
    bom = exported / "bom.cdx.json"
    assert accepts(CYCLONEDX, bom), environment.run(CYCLONEDX, bom).stderr
    bom.write_text(bom.read_text().replace('"machine-learning-model"', '"weights"'))
    assert not accepts(CYCLONEDX, bom)


def test_cyclonedx_validates_the_bill_of_materials_of_an_image(tmp_path: Path) -> None:
    lock = Path(__file__).resolve().parents[3] / "lockfiles" / "image.lock.toml"
    bom = tmp_path / "bom.image.cdx.json"
    bom.write_bytes(packages.image_bom(lock.read_bytes()))
    assert accepts(CYCLONEDX, bom), environment.run(CYCLONEDX, bom).stderr
    bom.write_text(bom.read_text().replace('"required"', '"wanted"'))
    assert not accepts(CYCLONEDX, bom)


def test_cyclonedx_validates_the_bill_of_materials_of_the_training(tmp_path: Path) -> None:
    bom = tmp_path / "bom.training.cdx.json"
    bom.write_bytes(packages.bom(training_env.LOCK.read_bytes(), "training environment"))
    assert accepts(CYCLONEDX, bom), environment.run(CYCLONEDX, bom).stderr


def test_cyclonedx_validates_the_version_before(tmp_path: Path) -> None:
    (tmp_path / "certificate.json").write_bytes(sample())
    export = ["export", str(tmp_path / "certificate.json"), str(tmp_path)]
    assert main([*export, "--spec-version", "1.6"]) == 0
    bom = tmp_path / "bom.cdx.json"
    assert accepts(CYCLONEDX_1_6, bom), environment.run(CYCLONEDX_1_6, bom).stderr
    assert json.loads(bom.read_bytes())["specVersion"] == "1.6"
    image = tmp_path / "image.cdx.json"
    lock = Path(__file__).resolve().parents[3] / "lockfiles" / "image.lock.toml"
    image.write_bytes(packages.image_bom(lock.read_bytes(), "1.6"))
    assert accepts(CYCLONEDX_1_6, image), environment.run(CYCLONEDX_1_6, image).stderr


@pytest.fixture
def passed(tmp_path: Path) -> Path:
    """What is exported of a model that passes, with an audit of its rows and an evaluation."""
    scene = trained()
    lay_out(scene, tmp_path)
    put(tmp_path, "tiny", scene, None)
    put(tmp_path, "audit", audit_scene())
    model = dir_digest(read_tree(tmp_path / "model"))
    give(tmp_path, evaluation.emit(results_of(model)), digests={"model": model})
    out = tmp_path / "out"
    out.mkdir()
    words = ["export", str(tmp_path / "c.json"), str(out), "--model", str(tmp_path / "model")]
    words += ["--evidence", str(tmp_path / "evidence"), "--policy", "local", "--at", AT]
    assert main([*words, "--root", str(tmp_path / "root.pem")]) == 0
    return out


def test_cyclonedx_validates_what_evaluations_measured(passed: Path) -> None:
    bom = passed / "bom.cdx.json"
    assert '"loss per token (measured)"' in bom.read_text()
    for code in (CYCLONEDX, CYCLONEDX_1_6):
        assert accepts(code, bom), environment.run(code, bom).stderr
    bom.write_text(bom.read_text().replace('"slice"', '"slices"'))
    assert not accepts(CYCLONEDX, bom)


def test_mlcroissant_reads_what_the_data_is(passed: Path) -> None:
    place = passed / "alpaca.croissant.json"
    oracle = environment.python(environment.CROISSANT, "croissant")
    done = environment.run(CROISSANT, place, interpreter=oracle)
    assert done.returncode == 0, done.stderr
    (rows,) = audited().data
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        f"alpaca-{split}.jsonl {rows.bytes} B {rows.digest.hex}" for split in ("train", "test")
    ]
    # Nothing in a certificate says these.
    missing = ["citeAs", "datePublished", "license", "version"]
    assert [
        line.partition('" is recommended')[0].rpartition("/")[2] for line in lines[2:]
    ] == missing
    place.write_text(place.read_text().replace('"contentUrl"', '"contentUri"'))
    assert environment.run(CROISSANT, place, interpreter=oracle).returncode != 0


def test_spdx_reads_the_document(exported: Path) -> None:
    document = exported / "bom.spdx.json"
    assert accepts(SPDX, document), environment.run(SPDX, document).stderr
    text = document.read_text()
    for old, new in (('"hasInput"', '"eats"'), ('"software_primaryPurpose"', '"purpose"')):
        document.write_text(text.replace(old, new))
        assert not accepts(SPDX, document)


def test_in_toto_reads_statements_and_predicates(exported: Path) -> None:
    assert accepts(IN_TOTO, exported), environment.run(IN_TOTO, exported).stderr


def test_the_machine_signs_what_it_made_and_exports_follow(checkout: Checkout) -> None:
    first = checkout.doit("certify")
    assert first.returncode == 0, first.stderr
    folder = checkout.certificate.parent
    signature, key = folder / "model.sig", folder / "run-key.pem"
    read = facts.read(checkout.certificate.read_bytes())
    assert dict(read.report.signatures) == {"model": of_bytes(signature.read_bytes())}
    verify = ("verify", "key", "--public_key", key, "--signature", signature, checkout.model)
    done = environment.model_signing(*verify)
    assert done.returncode == 0, done.stderr
    ours = ["verify-signature", str(checkout.model), "--key", str(key), "--signature"]
    assert main([*ours, str(signature)]) == 0
    # Neither verifier objects to files that may be next to a certified model.
    (checkout.model / "README.md").write_text("a card")
    shutil.copy(signature, checkout.model)
    assert main([*ours, str(signature)]) == 0
    assert environment.model_signing(*verify).returncode == 0
    assert checkout.doit("verify", "--policy", "local").returncode == 0
    bom = (folder / "bom.cdx.json").read_bytes()
    for name in ("bom.cdx.json", "bom.training.cdx.json"):
        assert accepts(CYCLONEDX, folder / name), environment.run(CYCLONEDX, folder / name).stderr
    assert accepts(SPDX, folder / "bom.spdx.json")
    assert accepts(IN_TOTO, folder)
    (folder / "bom.cdx.json").write_bytes(b"{}")
    before = checkout.certificate.stat()
    assert checkout.doit("certify").returncode == 0
    assert (folder / "bom.cdx.json").read_bytes() == bom
    assert checkout.certificate.stat().st_mtime_ns == before.st_mtime_ns
    signature.write_bytes(b"{}")
    assert "run   certify:tiny-alpaca" in checkout.doit("certify").stderr
    assert has_signatures(read_certificate(checkout.certificate), folder)
