"""Trainers with packages of their own, each in a booted machine of the image that has them.

The output is, byte for byte, what a process on this computer gives, which sees the same packages.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.formats import image_lock
from rules.example import example
from rules.image import build as image_build
from rules.image import tasks
from tests.e2e.conftest import REPOSITORY, Checkout, copy_repository
from tests.e2e.training import test_mergekit as mergekit
from tests.machine.conftest import BUILD_S, Built, passed_in_machine

# Each takes minutes of an emulated processor, almost all for imports of torch and Transformers.
pytestmark = [pytest.mark.slow, pytest.mark.machine, pytest.mark.whole]

PAGE = (REPOSITORY / "docs/spec/lm-eval.md").read_text(encoding="utf-8")
(RUN,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
CONFIG, TASK = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
MACHINES = """
[machines.local]
driver = "local"

[machines.there]
driver = "qemu"
image = "tools"
memory = "4 GiB"
time-limit = "2 h"
"""


@pytest.fixture(scope="module")
def with_tools(built: Built) -> Iterator[Built]:
    """Build the tools image of the checkout, as a user does."""
    root = built.checkout.root
    task = "image_tools_update" if built.fresh else "image_tools"
    done = built.checkout.doit("run", task, limit=BUILD_S)
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AICERT_CACHE", built.checkout.environment["AICERT_CACHE"])
        image = tasks.ensure(root, tools=True)
        with image_build.in_use(image_build.place(root, tools=True)):
            yield replace(built, image=image)


def there(run: str) -> str:
    """Return the run of an `aicert.toml`, and the same in the machine, with `-there` at its name's
    end.
    """
    (name,) = re.findall(r"^\[runs\.([a-z]+)\]$", run, re.MULTILINE)
    in_machine = run.replace(f"runs.{name}", f"runs.{name}-there").replace('"local"', '"there"')
    return f"{run}\n{in_machine}"


@pytest.fixture
def checkout(built: Built, tmp_path: Path) -> Checkout:
    """A checkout whose `mine/` is empty."""
    root = tmp_path / "checkout"
    root.mkdir()
    copy_repository(root)
    example.make_example(root)
    (root / "mine").mkdir()
    return Checkout(root=root, environment=built.checkout.environment)


def certify(checkout: Checkout, run: str, name: str) -> Path:
    """Certify a run on this computer. Returns the folder of its output."""
    (checkout.root / "aicert.toml").write_text(there(run) + MACHINES)
    for command in ("lock", "certify"):
        done = checkout.doit(command, name)
        assert done.returncode == 0, done.stderr
    return checkout.root / "outputs" / name


def test_the_images_differ_in_their_root_only(with_tools: Built, built: Built) -> None:
    roots = [image_lock.parse(each.image.lock).verity for each in (built, with_tools)]
    assert roots[0]["training"] == roots[1]["training"]
    assert roots[0]["root"] != roots[1]["root"]


def test_lm_eval_evaluates_in_the_machine_as_on_this_computer(
    with_tools: Built, checkout: Checkout, tmp_path: Path
) -> None:
    mine = checkout.root / "mine"
    (mine / "questions.yml").write_text(CONFIG)
    (mine / "local_mc.yaml").write_text(TASK)
    rows = [
        {"question": f"Which is number {index}?", "choices": ["ferry", "oak gate"], "answer": 1}
        for index in range(4)
    ]
    (mine / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    here = certify(checkout, RUN, "questions")
    shown = {"kind": "evaluate", "check": "outputs.results"}
    out = passed_in_machine(
        with_tools, checkout.root, tmp_path / "there", "questions-there", **shown
    )
    name = "results/results.json"
    assert (out / "outputs" / name).read_bytes() == (here / name).read_bytes()


def test_mergekit_merges_in_the_machine_as_on_this_computer(
    with_tools: Built, checkout: Checkout, tmp_path: Path
) -> None:
    mine = checkout.root / "mine"
    (mine / "merge.yml").write_text(mergekit.LINEAR)
    two = mergekit.variant(checkout.root / example.MODEL, mine / "two", 1)
    # Only its own user can read what safetensors saves.
    (two / "model.safetensors").chmod(0o644)
    here = certify(checkout, mergekit.RUN, "merged")
    shown = {"kind": "merge", "check": "outputs.derived"}
    out = passed_in_machine(with_tools, checkout.root, tmp_path / "there", "merged-there", **shown)
    name = "model/model.safetensors"
    assert (out / "outputs" / name).read_bytes() == (here / name).read_bytes()
