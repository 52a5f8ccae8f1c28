"""A trainer with packages of its own, in the booted machine of the image that has them.

The results are the bytes that a process on this computer gives, which sees the same packages.
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
from tests.machine.conftest import BUILD_S, Built, passed_in_machine

# Five minutes of an emulated processor, almost all for imports of torch and Transformers.
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


def lay_out(root: Path) -> None:
    """Add the page's run to a checkout, on this computer and in the machine."""
    example.make_example(root)
    mine = root / "mine"
    mine.mkdir()
    (mine / "questions.yml").write_text(CONFIG)
    (mine / "local_mc.yaml").write_text(TASK)
    rows = [
        {"question": f"Which is number {index}?", "choices": ["ferry", "oak gate"], "answer": 1}
        for index in range(4)
    ]
    (mine / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    there = RUN.replace("runs.questions", "runs.there").replace('"local"', '"there"')
    (root / "aicert.toml").write_text(f"{RUN}\n{there}\n{MACHINES}")


def test_lm_eval_evaluates_in_the_machine_as_on_this_computer(
    with_tools: Built, built: Built, tmp_path: Path
) -> None:
    roots = [image_lock.parse(each.image.lock).verity for each in (built, with_tools)]
    assert roots[0]["training"] == roots[1]["training"]
    assert roots[0]["root"] != roots[1]["root"]
    root = tmp_path / "checkout"
    root.mkdir()
    copy_repository(root)
    lay_out(root)
    checkout = Checkout(root=root, environment=built.checkout.environment)
    for command in ("lock", "certify"):
        done = checkout.doit(command, "questions")
        assert done.returncode == 0, done.stderr
    shown = {"kind": "evaluate", "check": "outputs.results"}
    out = passed_in_machine(with_tools, root, tmp_path / "there", "there", **shown)
    name = "results/results.json"
    here = root / "outputs/questions" / name
    assert (out / "outputs" / name).read_bytes() == here.read_bytes()
