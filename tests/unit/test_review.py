"""Reviews of real git repositories: what changed is told, and hostile text stays text."""

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from aicert import image_lock
from aicert.digest import dir_digest
from aicert.errors import AicertError, ConfigError, EvidenceError
from aicert.lockfile import LockedInput
from rules import (
    config,
    config_fields,
    edit,
    lock,
    review,
    review_packages,
    review_text,
    table_facts,
)
from rules.review_check import Check, check
from rules.review_packages import TRAINING, training_section
from rules.review_rows import Row, Section
from rules.revisions import Checkout, Revision
from tests.adversarial.forger import Scene, hex_of

REPOSITORY = Path(__file__).resolve().parents[2]
TOML = """\
# What to certify.
[runs.tiny]
config  = "path:tiny.yml"     # how
machine = "here"
outputs = ["model"]

[runs.tiny.inputs]            # from what
data = "path:data"

[machines.here]
driver = "local"
"""


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(root: Path, message: str) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(root, "rev-parse", "HEAD")


def relock(root: Path) -> None:
    for run in config.load(root).runs.values():
        lock.write(root, lock.resolve(root, run))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("AICERT_CACHE", str(tmp_path / "cache"))
    (root / "aicert.toml").write_text(TOML)
    (root / ".gitignore").write_text("/.aicert/\n")
    (root / "tiny.yml").write_text("learning_rate: 0.1\ndatasets:\n  - path: input:data\n")
    (root / "data").mkdir()
    (root / "data" / "train.jsonl").write_text('{"a": 1}\n' * 10)
    (root / "data" / "test.csv").write_text('a,b\n1,"x\ny"\n')
    git(root, "init", "--quiet")
    relock(root)
    commit(root, "base")
    return root


def told(root: Path, base: str = "HEAD") -> str:
    return review_text.text(review.review(root, Revision(root, base), Checkout(root)))


def test_nothing_changed(root: Path) -> None:
    assert review_text.NOTHING in told(root)


def test_files_rows_sizes_and_fields_are_told(root: Path) -> None:
    (root / "data" / "train.jsonl").write_text('{"a": 1}\n' * 12)
    (root / "data" / "test.csv").unlink()
    (root / "data" / "more.tsv").write_text("a\tb\n1\t2\n3\t4\n")
    (root / "tiny.yml").write_text(
        "learning_rate: 0.2\ndatasets:\n  - path: input:data\n    n: 1\n"
    )
    old = lock.read(root, "tiny")
    relock(root)
    new = lock.read(root, "tiny")
    lines = " ".join(told(root).split())
    for data in (old, new):
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" in lines
    assert "PCR 14 - sha256:" in lines
    assert "input data: files 2 -> 2 (1 added, 1 removed, 1 changed)" in lines
    assert "input data: train.jsonl 10 rows, 90 B -> 12 rows, 108 B" in lines
    assert "input data: test.csv - 1 rows, 12 B" in lines
    assert "input data: more.tsv + 2 rows, 12 B" in lines
    assert "config: learning_rate 0.1 -> 0.2" in lines
    assert "config: datasets[0].n + 1" in lines


def test_a_new_and_a_removed_run(root: Path) -> None:
    (root / "aicert.toml").write_text(
        TOML.replace("tiny", "other").replace("other.yml", "tiny.yml")
    )
    relock(root)
    (root / "lockfiles" / "tiny.lock.toml").unlink()
    text = told(root)
    assert "run other: new" in text
    assert "run tiny: removed" in text


def test_two_revisions_are_compared_without_the_checkout(root: Path) -> None:
    base = git(root, "rev-parse", "HEAD")
    (root / "data" / "train.jsonl").write_text("{}\n")
    relock(root)
    head = commit(root, "head")
    git(root, "checkout", "--quiet", base)
    found = review.review(root, Revision(root, base), Revision(root, head))
    assert "train.jsonl" in review_text.text(found)
    assert f"{head[:10]}" in found.head
    with pytest.raises(ConfigError):
        Revision(root, "--all")


def test_what_cannot_be_read_is_a_warning(root: Path) -> None:
    path = lock.path_of(root, "tiny")
    path.write_bytes(path.read_bytes() + b"\n")
    assert "warning: run tiny: lockfile in the checkout cannot be read" in told(root)
    relock(root)
    (root / "data" / "train.jsonl").write_text("{}\n")
    relock(root)
    (root / "lockfiles" / "tiny" / "data.sha256").write_text("0" * 64 + "  x\n")
    assert "listing of input data in the checkout is missing or not that of dirHash:" in told(root)


def test_pickles_are_pointed_at(root: Path) -> None:
    allowed = 'data = { from = "path:data", allow-pickle = true }'
    (root / "aicert.toml").write_text(TOML.replace('data = "path:data"', allowed))
    relock(root)
    assert "warning: run tiny: input data may hold pickles, which can run code" in told(root)


HOSTILE = "</code><script>|`\n@everyone #1 ![x](http://x) \x1b[31m\u202e**b**"


def test_hostile_text_is_no_markup_and_moves_no_cursor() -> None:
    section = Section(
        title=HOSTILE,
        word="new",
        rows=(Row(label=HOSTILE, old=HOSTILE, new=HOSTILE, note=HOSTILE),),
    )
    found = review.Review(base=HOSTILE, head=HOSTILE, sections=(section,), warnings=(HOSTILE,))
    checks = (Check(what=HOSTILE, verdict="failed", detail=HOSTILE),)
    text = review_text.text(found, checks)
    assert all(line.isprintable() for line in text.split("\n"))
    comment = review_text.markdown(found, checks)
    assert comment.startswith(review_text.MARKER + "\n")
    for forbidden in ("<script", "@", "![", "](", "\x1b", "\u202e", "**b", "`\n", "#1 "):
        assert forbidden not in comment, forbidden
    assert "&#64;everyone" in comment
    assert comment.count("|") % 2 == 0


def test_a_comment_fits_on_github() -> None:
    rows = tuple(Row(label=f"file {i}", old="x" * 200, new="y" * 200) for i in range(2000))
    section = Section(title="run", word="changed", rows=rows)
    found = review.Review(base="a", head="b", sections=(section,) * 3, warnings=())
    comment = review_text.markdown(found)
    assert len(comment) < 65_536
    assert "This comment is full" in comment


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "!!python/object/apply:os.system ['true']",
        "[" * 5000,
        "a: [",
        "\x00",
    ],
)
def test_a_hostile_config_is_not_compared(text: str) -> None:
    assert config_fields.fields(text.encode()) is None


@pytest.mark.parametrize(
    ("name", "data", "rows"),
    [
        ("a.jsonl", b"{}\n\n{}", 2),
        ("a.csv", b"a,b\n", 0),
        ("a.csv", b"", 0),
        ("a.csv", b"\xff\xfe", None),
        ("a.bin", b"x", None),
        # FileMetaData {1: i32 2, 2: list of one struct {4: binary}, 3: i64 7}, as Thrift writes it.
        (
            "a.parquet",
            b"PAR1" + b"\x15\x04\x19\x1c\x48\x01a\x00\x16\x0e\x00" + b"\x0b\0\0\0PAR1",
            7,
        ),
        ("a.parquet", b"PAR1" + b"\x19\xfc\xff\xff\xff\xff\x0f" + b"\x07\0\0\0PAR1", None),
        ("a.parquet", b"PAR1\xff\xff\xff\x7fPAR1", None),
        ("a.parquet", b"PAR1" + b"\x1c" * 90 + b"\x5a\0\0\0PAR1", None),
    ],
)
def test_rows_of_data_files(name: str, data: bytes, rows: int | None) -> None:
    assert table_facts.rows(name, data) == rows


PINS = """\
numpy==2.0.0 \\
    --hash=sha256:{}
    # via torch
torch==2.13.0 \\
    --hash=sha256:{} \\
    --hash=sha256:{}
"""


def test_packages_of_the_training_environment_are_told(root: Path) -> None:
    folder = root / "enclave_runner"
    folder.mkdir()
    pins = PINS.format(*(c * 64 for c in "abc"))
    (folder / "requirements.lock").write_text(pins)
    base = Revision(root, commit(root, "environment"))
    new = (
        pins.replace("2.0.0", "2.1.0").replace("c" * 64, "d" * 64)
        + "evil==1 --hash=sha256:"
        + "e" * 64
    )
    (folder / "requirements.lock").write_text(new)
    warnings: list[str] = []
    section = training_section(base, Checkout(root), warnings)
    assert section is not None
    assert [(row.label, row.old, row.new) for row in section.rows] == [
        ("evil", None, "1"),
        ("numpy", "2.0.0", "2.1.0"),
        ("torch", "2.13.0", "2.13.0"),
    ]
    assert warnings == ["training environment: torch 2.13.0 has other files under the same version"]


def test_the_image_with_gpus_is_told_by_itself(root: Path) -> None:
    path = root / review_packages.IMAGES[1]
    path.write_bytes((REPOSITORY / review_packages.IMAGE).read_bytes())
    found = told(root)
    assert "machine image with GPUs: new" in found
    # It is no run's.
    assert "aicert.toml has no such run" not in found
    judged = checks_of(root)
    assert "image_gpu_reproduce" in judged[review_packages.IMAGES[1]].detail
    assert "failed" not in {check.verdict for check in judged.values()}


def checks_of(root: Path) -> dict[str, Check]:
    return {c.what: c for c in check(root, Revision(root, "HEAD"), Scene().get("policy"))}


def test_a_change_of_the_committed_locks_of_image_and_training_is_told(root: Path) -> None:
    image, training = (root / name for name in (review_packages.IMAGE, TRAINING[0]))
    training.parent.mkdir()
    for path in (image, training):
        path.write_bytes((REPOSITORY / path.relative_to(root)).read_bytes())
    commit(root, "as released")
    text = image.read_text()
    locked = image_lock.parse(image.read_bytes())
    tool, installed, same = (
        next(p for p in locked.packages if p.part == part and p.name.startswith(name))
        for part, name in (("tools", "a"), ("machine", "a"), ("machine", "z"))
    )
    for old, new in (
        (f'"{tool.version}"\ndigest = "{tool.digest}"', f'"9"\ndigest = "{tool.digest}"'),
        (f'version = "{installed.version}"\ndigest = "{installed.digest}"',
         f'version = "0:9.9"\ndigest = "sha256:{"a" * 64}"'),
        (str(same.digest), f"sha256:{'b' * 64}"),
        (locked.pcrs[11].hex(), "c" * 64),
        (str(locked.verity["training"]), f"sha256:{'d' * 64}"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    image.write_text(text)
    pins = training.read_text()
    version = pins.partition("\nsafetensors==")[2].partition(" ")[0]
    training.write_text(pins.replace(f"\nsafetensors=={version} ", "\nsafetensors==99.0 "))
    found = told(root)
    assert f"machine: {installed.name}" in found
    assert f"{installed.version} -> 0:9.9" in found
    assert found.index(f"machine: {installed.name}") < found.index(f"tools: {tool.name}")
    assert f"+ {'c' * 64}" in found
    assert "dm-verity root of training" in found
    warning = f"image: machine: {same.name} {same.version} has other files under the same version"
    assert f"warning: {warning}" in found
    judged = checks_of(root)[review_packages.IMAGE]
    assert judged.verdict == "-"
    assert "rebuild it before it is merged" in judged.detail
    image.write_text(text + "\n")
    assert "is not in canonical form" in checks_of(root)[review_packages.IMAGE].detail
    assert "training environment: changed" in found
    assert f"safetensors  {version} -> 99.0" in found


def test_a_change_is_laid_out_without_links_filters_or_escapes(root: Path, tmp_path: Path) -> None:
    (root / ".gitattributes").write_text("lockfiles/** export-ignore\n*.csv text eol=crlf\n")
    (root / "link").symlink_to("/etc/passwd")
    head = commit(root, "head")
    out = tmp_path / "out"
    out.mkdir()
    Revision(root, head).lay_out(out)
    assert not (out / "link").exists()
    assert (out / "data" / "test.csv").read_bytes() == (root / "data" / "test.csv").read_bytes()
    assert (out / "lockfiles" / "tiny.lock.toml").is_file()
    blob = git(root, "hash-object", "-w", "tiny.yml")
    listing = f"100644 blob {blob}\t..".encode()
    inner = subprocess.run(
        ["git", "mktree", "-z"], cwd=root, input=listing, capture_output=True, check=True
    ).stdout.decode().strip()  # fmt: skip
    evil = git(root, "commit-tree", inner, "-m", "evil")
    with pytest.raises(EvidenceError):
        Revision(root, evil).lay_out(out)


def test_checks_of_a_change(root: Path) -> None:
    scene = Scene()
    policy = scene.get("policy")
    base = Revision(root, "HEAD")
    assert [(c.verdict, c.what) for c in check(root, base, policy)] == [
        ("ok", "lockfile of run tiny")
    ]
    # The certificate is of run tiny and of another lockfile than the one here.
    place = root / "certificates" / "tiny"
    place.mkdir(parents=True)
    (place / "certificate.json").write_bytes(scene.get("file"))
    (root / "data" / "train.jsonl").write_text("{}\n")
    (root / "lockfiles" / "gone.lock.toml").write_text("x")
    found = {c.what: c for c in check(root, base, policy)}
    assert found["lockfile of run tiny"].verdict == "failed"
    assert "stale" in found["lockfile of run tiny"].detail
    assert found["lockfiles/gone.lock.toml"].detail == "aicert.toml has no such run"
    told = found["certificate of run tiny"].detail
    assert "inputs.lockfile: the certificate is of another lockfile" in told
    lock.path_of(root, "tiny").write_bytes(scene.get("lockfile_bytes"))
    again = {c.what: c for c in check(root, base, policy)}
    assert again["certificate of run tiny"].verdict == "ok"
    # Bytes that the change does not bring cannot be judged, nor an aicert.toml that is none.
    (root / "data" / "train.jsonl").unlink()
    (root / "data" / "test.csv").unlink()
    (root / "data").rmdir()
    relocked = {c.what: c for c in check(root, base, policy)}
    assert relocked["lockfile of run tiny"].verdict == "-"
    (root / "aicert.toml").write_text("x")
    assert [c.what for c in check(root, base, policy)] == ["aicert.toml"]


def test_a_certificate_needs_those_of_what_it_builds_on(root: Path) -> None:
    made = Scene().edit("outputs", lambda _: {"model": {"w.safetensors": b"base"}})
    base = made.edit("lockfile", lambda locked: replace(locked, run="base"))
    taken = LockedInput(
        name="zbase",
        source="run:base/model",
        uri="run:base/model",
        size=4,
        digest=dir_digest({"w.safetensors": hex_of(b"base")}),
    )
    tiny = Scene().edit("lockfile", lambda locked: replace(locked, inputs=(*locked.inputs, taken)))
    scenes = {"base": base, "tiny": tiny}
    for run, scene in scenes.items():
        folder = root / "certificates" / run
        folder.mkdir(parents=True)
        (folder / "certificate.json").write_bytes(scene.get("file"))
        lock.path_of(root, run).write_bytes(scene.get("lockfile_bytes"))
    found = checks_of(root)
    assert found["certificate of run tiny"].verdict == "ok", found["certificate of run tiny"].detail
    (root / "certificates" / "base" / "certificate.json").unlink()
    told = checks_of(root)["certificate of run tiny"]
    assert told.verdict == "failed"
    assert "lineage.ancestors: input zbase is not shown to be run:base/model" in told.detail


def test_the_inputs_of_the_example_are_not_made_through_a_link(root: Path, tmp_path: Path) -> None:
    (root / "examples").symlink_to(tmp_path)
    (root / "aicert.toml").write_text(TOML.replace("path:data", "path:examples/alpaca"))
    found = check(root, Revision(root, "HEAD"), Scene().get("policy"))
    assert found[0].verdict == "-"
    assert not (tmp_path / "alpaca").exists()


def test_add_keeps_comments_order_and_style_and_shows_the_change(root: Path) -> None:
    (root / "more.txt").write_text("x")
    found = edit.add(root, "tiny", "more", "path:more.txt", allow_pickle=False)
    assert (root / "aicert.toml").read_text() == TOML.replace(
        'data = "path:data"\n', 'data = "path:data"\nmore = "path:more.txt"\n'
    )
    assert "input more: from" in review_text.text(found)
    edit.add(root, "tiny", "more", "path:more.txt", allow_pickle=True)
    text = (root / "aicert.toml").read_text()
    assert 'more = {from = "path:more.txt", allow-pickle = true}' in text
    edit.add(root, "tiny", "config", "path:more.txt", allow_pickle=False)
    assert 'config  = "path:more.txt"     # how' in (root / "aicert.toml").read_text()


def test_add_makes_a_run_from_its_config(root: Path) -> None:
    found = edit.add(root, "next", "config", "path:tiny.yml", allow_pickle=False)
    assert [section.title for section in found.sections] == ["run next"]
    project = config.load(root)
    assert project.run("next").machine.name == "here"
    with pytest.raises(ConfigError, match="no run 'absent'"):
        edit.add(root, "absent", "data", "path:data", allow_pickle=False)


@pytest.mark.parametrize("source", ["path:absent", "path:../x", "what:ever"])
def test_add_that_fails_changes_nothing(root: Path, source: str) -> None:
    before = lock.read(root, "tiny")
    with pytest.raises(AicertError):
        edit.add(root, "tiny", "more", source, allow_pickle=False)
    assert (root / "aicert.toml").read_text() == TOML
    assert lock.read(root, "tiny") == before


def test_add_that_is_interrupted_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lock, "resolve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        edit.add(root, "tiny", "more", "path:tiny.yml", allow_pickle=False)
    assert (root / "aicert.toml").read_text() == TOML


def test_update_shows_what_moved(root: Path) -> None:
    (root / "data" / "train.jsonl").write_text("{}\n")
    runs = list(config.load(root).runs.values())
    assert "train.jsonl" in review_text.text(edit.update(root, runs, "data"))
    with pytest.raises(ConfigError, match="no input 'datum'"):
        edit.update(root, runs, "datum")
