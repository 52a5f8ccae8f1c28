"""Reviews of real git repositories: changes are reported, and hostile text stays text."""

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.formats.digest import of_bytes
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import LockedInput
from rules.host.rows import Row, Section
from rules.project import images, locked
from rules.review import config_fields, review, revisions, table_facts
from rules.review import text as review_text
from rules.review.check import Check, check
from rules.review.revisions import Revision
from tests.adversarial.attacks_audits import given, looked
from tests.adversarial.forger import Scene, hex_of
from tests.unit import review_project
from tests.unit.review_project import TOML, checks_of, commit, git, make, relock, reviewed_text


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make(tmp_path / "project", monkeypatch)


def test_nothing_changed(root: Path) -> None:
    assert review_text.NOTHING in reviewed_text(root)


def test_files_rows_sizes_and_fields_are_told(root: Path) -> None:
    (root / "data" / "train.jsonl").write_text('{"a": 1}\n' * 12)
    (root / "data" / "test.csv").unlink()
    (root / "data" / "more.tsv").write_text("a\tb\n1\t2\n3\t4\n")
    (root / "tiny.yml").write_text(
        "learning_rate: 0.2\ndatasets:\n  - path: input:data\n    n: 1\n"
    )
    old = locked.read(root, "tiny")
    relock(root)
    new = locked.read(root, "tiny")
    lines = " ".join(reviewed_text(root).split())
    for data in (old, new):
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" in lines
    assert "PCR 14 - sha256:" in lines
    assert "input data: files 2 -> 2 (1 added, 1 removed, 1 changed)" in lines
    assert "input data: train.jsonl 10 rows, 90 B -> 12 rows, 108 B" in lines
    assert "input data: test.csv - 1 rows, 12 B" in lines
    assert "input data: more.tsv + 2 rows, 12 B" in lines
    assert "config: learning_rate 0.1 -> 0.2" in lines
    assert "config: datasets[0].n + 1" in lines


def test_a_revision_of_too_many_files_is_refused_and_not_cut(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise files that come first by name could make a lockfile appear removed."""
    monkeypatch.setattr(revisions, "_MAX_NAMES", 3)
    with pytest.raises(ToolError, match="has more than 3 files"):
        reviewed_text(root)


def test_a_new_and_a_removed_run(root: Path) -> None:
    (root / "aicert.toml").write_text(
        TOML.replace("tiny", "other").replace("other.yml", "tiny.yml")
    )
    relock(root)
    (root / "lockfiles" / "tiny.lock.toml").unlink()
    text = reviewed_text(root)
    assert "run other: new" in text
    assert "run tiny: removed" in text


def test_two_revisions_are_compared_without_the_checkout(root: Path) -> None:
    base = git(root, "rev-parse", "HEAD")
    (root / "data" / "train.jsonl").write_text("{}\n")
    relock(root)
    head = commit(root, "head")
    git(root, "checkout", "--quiet", base)
    compared = review.review(root, Revision(root, base), Revision(root, head))
    assert "train.jsonl" in review_text.text(compared)
    assert f"{head[:10]}" in compared.head
    with pytest.raises(ConfigError):
        Revision(root, "--all")


def test_what_cannot_be_read_is_a_warning(root: Path) -> None:
    path = locked.path_of(root, "tiny")
    path.write_bytes(path.read_bytes() + b"\n")
    assert "warning: run tiny: lockfile in the checkout cannot be read" in reviewed_text(root)
    relock(root)
    (root / "data" / "train.jsonl").write_text("{}\n")
    relock(root)
    (root / "lockfiles" / "tiny" / "data.sha256").write_text("0" * 64 + "  x\n")
    assert (
        "listing of input data in the checkout is missing or does not match dirHash:"
        in reviewed_text(root)
    )


def test_pickles_are_pointed_at(root: Path) -> None:
    allowed = 'data = { from = "path:data", allow-pickle = true }'
    (root / "aicert.toml").write_text(TOML.replace('data = "path:data"', allowed))
    relock(root)
    assert "warning: run tiny: input data may contain pickles, which can run code" in reviewed_text(
        root
    )


def test_code_of_an_input_is_pointed_at(root: Path) -> None:
    allowed = 'data = { from = "path:data", allow-remote-code = true }'
    (root / "aicert.toml").write_text(TOML.replace('data = "path:data"', allowed))
    relock(root)
    text = reviewed_text(root)
    assert "warning: run tiny: Python files in input data may run in the trainer" in text
    assert "allow-remote-code" in text


HOSTILE = "</code><script>|`\n@everyone #1 ![x](http://x) \x1b[31m\u202e**b**"
UNSEEN = "\u05d0\u3164\u2800\ufe0f"


def test_hostile_text_is_no_markup_and_moves_no_cursor() -> None:
    row = Row(label=HOSTILE, old=HOSTILE, new=UNSEEN, note=HOSTILE)
    section = Section(title=HOSTILE, word="new", rows=(row,))
    hostile_review = review.Review(
        base=HOSTILE, head=HOSTILE, sections=(section,), warnings=(HOSTILE,)
    )
    checks = (Check(what=HOSTILE, verdict="failed", detail=HOSTILE),)
    text = review_text.text(hostile_review, checks)
    assert all(line.isprintable() for line in text.split("\n"))
    assert not set(UNSEEN) & set(text)
    assert ascii(UNSEEN)[1:-1] in text
    comment = review_text.markdown(hostile_review, checks)
    assert comment.startswith(review_text.MARKER + "\n")
    for forbidden in ("<script", "@", "![", "](", "\x1b", "\u202e", "**b", "`\n", "#1 "):
        assert forbidden not in comment, forbidden
    assert "&#64;everyone" in comment
    assert comment.count("|") % 2 == 0


def test_a_comment_fits_on_github() -> None:
    rows = tuple(Row(label=f"file {i}", old="x" * 200, new="y" * 200) for i in range(2000))
    section = Section(title="run", word="changed", rows=rows)
    large_review = review.Review(base="a", head="b", sections=(section,) * 3, warnings=())
    comment = review_text.markdown(large_review)
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
        "a.b: 1\na: {b: 2}\n",
        "1: x\n'1': y\n",
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
    # The certificate is for run tiny and for a different lockfile than the one here.
    place = root / "certificates" / "tiny"
    place.mkdir(parents=True)
    (place / "certificate.json").write_bytes(scene.get("file"))
    (root / "data" / "train.jsonl").write_text("{}\n")
    (root / "lockfiles" / "gone.lock.toml").write_text("x")
    checks = {c.what: c for c in check(root, base, policy)}
    assert checks["lockfile of run tiny"].verdict == "failed"
    assert "stale" in checks["lockfile of run tiny"].detail
    assert checks["lockfiles/gone.lock.toml"].detail == "aicert.toml has no such run"
    detail = checks["certificate of run tiny"].detail
    assert "inputs.lockfile: the certificate is for a different lockfile" in detail
    locked.path_of(root, "tiny").write_bytes(scene.get("lockfile_bytes"))
    again = {c.what: c for c in check(root, base, policy)}
    assert again["certificate of run tiny"].verdict == "ok"
    # Files that the change does not include cannot be judged, nor can an invalid aicert.toml.
    (root / "data" / "train.jsonl").unlink()
    (root / "data" / "test.csv").unlink()
    (root / "data").rmdir()
    relocked = {c.what: c for c in check(root, base, policy)}
    assert relocked["lockfile of run tiny"].verdict == "-"
    (root / "aicert.toml").write_text("x")
    assert [c.what for c in check(root, base, policy)] == ["aicert.toml"]


def test_a_certificate_needs_those_of_what_it_builds_on(root: Path) -> None:
    base_scene = Scene().edit("outputs", lambda _: {"model": {"w.safetensors": b"base"}})
    base = base_scene.edit("lockfile", lambda locked: replace(locked, run="base"))
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
        locked.path_of(root, run).write_bytes(scene.get("lockfile_bytes"))
    checks = checks_of(root)
    assert checks["certificate of run tiny"].verdict == "ok", checks[
        "certificate of run tiny"
    ].detail
    (root / "certificates" / "base" / "certificate.json").unlink()
    certificate_check = checks_of(root)["certificate of run tiny"]
    assert certificate_check.verdict == "failed"
    assert (
        "lineage.ancestors: nothing shows that input zbase is run:base/model"
        in certificate_check.detail
    )


def test_the_inputs_of_the_example_are_not_made_through_a_link(root: Path, tmp_path: Path) -> None:
    (root / "examples").symlink_to(tmp_path)
    (root / "aicert.toml").write_text(TOML.replace("path:data", "path:examples/alpaca"))
    checks = check(root, Revision(root, "HEAD"), Scene().get("policy"))
    assert checks[0].verdict == "-"
    assert not (tmp_path / "alpaca").exists()


def test_a_project_that_is_a_folder_of_a_larger_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = review_project.make(tmp_path / "repository" / "models", monkeypatch, within=True)
    assert "no lockfile, machine image or training environment differs" in reviewed_text(root)
    with (root / "data" / "train.jsonl").open("a") as file:
        file.write('{"a": 2}\n')
    review_project.relock(root)
    text = reviewed_text(root)
    assert "11" in text
    assert "new run" not in text
    # A revision from before that folder existed.
    assert "tiny" in reviewed_text(root, "HEAD~1")


def test_a_shallow_clone_says_so(root: Path, tmp_path: Path) -> None:
    review_project.commit(root, "more")
    clone = tmp_path / "shallow"
    review_project.git(root, "clone", "--quiet", "--depth=1", f"file://{root}", str(clone))
    with pytest.raises(ConfigError, match="this clone is shallow") as refused:
        Revision(clone, "HEAD~1")
    assert refused.value.hint == "git fetch --unshallow"


@pytest.mark.parametrize("where", ["nowhere", "in the change", "in the base"])
def test_a_certificate_is_judged_by_the_bases_list_of_images_not_by_the_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    root = review_project.make(tmp_path / "repository", monkeypatch)
    scene = Scene("qemu")
    digest = of_bytes(scene.get("image_lock"))
    listed = f'tier = "measured-vm"\n[images]\naccepted = ["{digest}"]\n'
    if where == "in the base":
        (root / images.LIST).write_text(listed)
        commit(root, "an image")
    (root / "lockfiles" / "tiny.lock.toml").write_bytes(scene.get("lockfile_bytes"))
    path = root / "certificates" / "tiny" / "certificate.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(scene.get("file"))
    if where == "in the change":
        (root / images.LIST).write_text(listed)
    policy = replace(scene.get("policy"), accepted=frozenset())
    checks = {c.what: c for c in check(root, Revision(root, "HEAD"), policy)}
    detail = checks["certificate of run tiny"].detail
    assert ("accepts no machine image yet" in detail) == (where != "in the base"), detail
    if where == "in the change":
        shown = reviewed_text(root).partition(f"{images.LIST}: changed\n")[2]
        assert shown.lstrip().startswith("accepted ")
        assert str(digest) in shown


def test_the_list_of_images_is_shown_and_must_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = review_project.make(tmp_path / "repository", monkeypatch)
    one, two = "sha256:" + "11" * 32, "sha256:" + "22" * 32
    head = 'tier = "measured-vm"\n[images]\n'
    (root / images.LIST).write_text(
        f'{head}accepted = ["{one}"]\nrevoked = ["{two}"]\nreasons = {{"{two}" = "its kernel"}}\n'
    )
    text = reviewed_text(root)
    assert one in text
    assert "its kernel" in text
    commit(root, "images")
    (root / images.LIST).write_text(head)
    assert f"image {two} is no longer revoked" in reviewed_text(root)
    (root / images.LIST).write_text(f'{head}revoked = ["{two}"]\n')
    assert "is revoked without a reason" in reviewed_text(root)
    assert checks_of(root)[str(images.LIST)].verdict == "failed"


def test_a_certificate_is_judged_with_the_audits_that_the_policy_demands(root: Path) -> None:
    scene = Scene("local", 2)
    given(looked)(scene)
    place = root / "certificates" / "tiny"
    place.mkdir(parents=True)
    (place / "certificate.json").write_bytes(scene.get("file"))
    locked.path_of(root, "tiny").write_bytes(scene.get("lockfile_bytes"))
    asked = (root, Revision(root, "HEAD"), scene.get("policy"))
    for audits, verdict in ((None, "-"), ([], "failed"), (scene.audits, "ok")):
        checks = {c.what: c.verdict for c in check(*asked, audits=audits)}
        assert checks["certificate of run tiny"] == verdict
