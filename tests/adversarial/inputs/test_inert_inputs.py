"""Files beside rows and weights change nothing: the trainer does not see them, and the run names
them.

One real training, on inputs with everything beside them that loaders once followed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from aicert.formats.run_report import parse as parse_report
from aicert.formats.statement import parse as parse_statement
from aicert.verifier.verify import read_certificate
from rules.example import example
from rules.host import training_env
from tests.adversarial.inputs import models, rows
from tests.adversarial.inputs.table import CONFIG, write
from tests.adversarial.inputs.test_hostile_inputs import ROOT, TOML, run

pytestmark = pytest.mark.slow

IMPORTED = b"raise SystemExit('this was imported')\n"
BESIDE_ROWS: dict[str, bytes] = {
    "README.md": rows.IMAGE_HEADER,
    ".huggingface.yaml": b"configs: [{config_name: x, data_files: /proc/partitions}]\n",
    "hostile.py": IMPORTED,
    "rows.zip": rows.zipped("x::reference::/x.jsonl"),
    "cache-0123456789abcdef.arrow": b"ARROW1\0\0",
    "dataset_infos.json": b'{"default": {"features": {"instruction": {"_type": "Image"}}}}',
}
BESIDE_MODEL: dict[str, bytes] = {
    "README.md": b"---\nbase_model: /x\n---\n",
    "configuration_x.py": IMPORTED,
    "modeling_x.py": IMPORTED,
    "kernel/torch-ext/x/__init__.py": IMPORTED,
    "adapter_config.json": json.dumps({"base_model_name_or_path": models.ELSEWHERE}).encode(),
    "pytorch_model.dat": b"\x80\x04.",
}


def test_what_lies_beside_is_not_seen(tmp_path: Path) -> None:
    environment = training_env.ensure(ROOT)
    example.make_example(tmp_path)
    shown = (tmp_path / example.DATA / "train.jsonl").read_bytes()
    (tmp_path / example.MODEL).rename(tmp_path / "model")
    write({"train.jsonl": shown, **BESIDE_ROWS})(tmp_path / "rows")
    write(BESIDE_MODEL)(tmp_path / "model")
    write({"x": b"x"})(tmp_path / "hostile")
    path = tmp_path / "model" / "config.json"
    left_over = {"_name_or_path": "/home/x", "auto_map": {"AutoConfig": "configuration_x.X"}}
    path.write_text(json.dumps(json.loads(path.read_bytes()) | left_over))
    (tmp_path / "config.yml").write_text(CONFIG)
    (tmp_path / "aicert.toml").write_text(TOML)
    for name in ("aicert", "enclave_runner"):
        # The certificate has a digest of the runner's code, which follows no link.
        shutil.copytree(ROOT / name, tmp_path / name)
    out = run(tmp_path, environment)
    certificate = read_certificate(out / "certificate.json")
    report = parse_report(parse_statement(certificate.envelope.payload).report)
    assert report.exit_code == "0", (out / "training.log").read_text()[-2000:]
    (record,) = report.records
    assert (record.name, record.files) == ("rows", ("train.jsonl",))
    canonical = (
        json.dumps(json.loads(row), ensure_ascii=False, separators=(",", ":")) + "\n"
        for row in shown.decode().splitlines()
    )
    assert record.digest.hex == hashlib.sha256("".join(canonical).encode()).hexdigest()
    assert report.removed == ("model/config.json: _name_or_path", "model/config.json: auto_map")
    weights = out / "outputs" / "model"
    assert "auto_map" not in json.loads((weights / "config.json").read_bytes())
    assert "this was imported" not in (out / "training.log").read_text()
