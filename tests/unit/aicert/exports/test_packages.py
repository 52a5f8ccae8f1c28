"""Bills of materials of images that have more than the base image."""

import json
import re
from pathlib import Path

import pytest

import rules.runs.exports
from aicert.exports import packages

ROOT = Path(__file__).resolve().parents[4]


def test_a_trainers_own_packages_come_before_those_of_the_environment() -> None:
    lock = b"""numpy==2.3.5 \\
    --hash=sha256:%b
immutables==1.0 \\
    --hash=sha256:%b
""" % (b"a" * 64, b"b" * 64)
    exports = rules.runs.exports
    assert exports._with_tools(lock, "axolotl") == lock
    bom = json.loads(packages.bom(exports._with_tools(lock, "mergekit"), "training environment"))
    own = (ROOT / "enclave_runner/mergekit/requirements.lock").read_text("ascii")
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", own, re.MULTILINE)) | {"numpy": "2.3.5"}
    assert {part["name"]: part["version"] for part in bom["components"]} == pins
    assert pins["immutables"] != "1.0"


@pytest.mark.parametrize(("image", "part"), [("tools", "mergekit"), ("serve", "gateway")])
def test_wheels_beside_the_environment_are_in_the_image(image: str, part: str) -> None:
    lock = (ROOT / "lockfiles" / f"image-{image}.lock.toml").read_bytes()
    parts = json.loads(packages.image_bom(lock))["components"]
    own = [each for each in parts if each["bom-ref"].startswith(f"{part}/")]
    assert own
    assert {each["scope"] for each in own} == {"required"}
    assert all(each["purl"].startswith("pkg:pypi/") for each in own)
