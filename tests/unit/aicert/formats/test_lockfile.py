import hashlib
import json
import re
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import LockError
from aicert.formats import lockfile
from aicert.formats.digest import Digest
from aicert.formats.lockfile import LockedInput, Lockfile
from tests.fuzz.seeds import seeds

GOOD = seeds()["lockfile"][0]
CONFIG = LockedInput(
    name="config", source="path:c", uri="path:c", size=1, digest=Digest("sha256", "c" * 64)
)
SMALL = Lockfile(run="r", trainer="t", outputs=("m",), inputs=(CONFIG,))

HEAD = b'version = 1\nrun = "r"\ntrainer = "t"\noutputs = ["m"]\n'

NAME = st.from_regex(lockfile.NAME, fullmatch=True)
AUDIT = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
VALUE = st.text(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'),
    min_size=1,
    max_size=30,
)
DIGEST = st.builds(
    Digest,
    st.sampled_from(("sha256", "dirHash")),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
)
PATTERNS = st.lists(VALUE, max_size=3).map(tuple)


@st.composite
def lockfiles(draw: st.DrawFn) -> Lockfile:
    audits = draw(st.sets(AUDIT, max_size=2))
    configs = {"config"} | {lockfile.audit_input(audit, "config") for audit in audits}
    names = draw(st.sets(NAME, max_size=3)) | configs
    inputs = [
        LockedInput(
            name=name,
            source=draw(VALUE),
            uri=draw(VALUE),
            size=draw(st.integers(0, 2**63 - 1)),
            digest=CONFIG.digest if name in configs else draw(DIGEST),
            only=draw(PATTERNS),
            except_=draw(PATTERNS),
            allow_pickle=draw(st.booleans()),
            allow_remote_code=draw(st.booleans()),
            signed_by=draw(st.none() | st.from_regex(lockfile.SIGNER, fullmatch=True)),
        )
        for name in sorted(names)
    ]
    outputs = draw(st.sets(NAME, min_size=1, max_size=3))
    return Lockfile(
        run=draw(NAME),
        trainer=draw(NAME),
        outputs=tuple(sorted(outputs)),
        inputs=tuple(inputs),
        ranks=draw(st.integers(1, lockfile.MAX_RANKS)),
        audits=tuple(sorted(audits)),
    )


@given(lockfiles())
def test_what_is_written_is_read_and_is_toml(locked: Lockfile) -> None:
    data = lockfile.emit(locked)
    assert lockfile.parse(data) == locked
    assert lockfile.emit(lockfile.parse(data)) == data
    document = tomllib.loads(data.decode())
    assert [item["name"] for item in document["input"]] == [item.name for item in locked.inputs]
    assert all(byte == 10 or 32 <= byte < 127 for byte in data)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_another_lockfile(at: int, change: int) -> None:
    data = bytearray(GOOD)
    data[at] ^= change
    try:
        other = lockfile.parse(bytes(data))
    except LockError:
        return
    assert other != lockfile.parse(GOOD)
    assert lockfile.emit(other) == bytes(data)
    assert lockfile.identity(bytes(data)) != lockfile.identity(GOOD)
    assert lockfile.pcr14(bytes(data)) != lockfile.pcr14(GOOD)


@given(st.integers(0, len(GOOD)), st.sampled_from(b'\n \t\r"\\#[]=0a'), st.booleans())
def test_an_added_or_removed_byte_too(at: int, byte: int, add: bool) -> None:
    data = GOOD[:at] + bytes([byte]) + GOOD[at:] if add else GOOD[:at] + GOOD[at + 1 :]
    try:
        other = lockfile.parse(data)
    except LockError:
        return
    assert data == GOOD or other != lockfile.parse(GOOD)


def test_identity_is_what_sha256sum_prints(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(GOOD)
    printed = subprocess.run(
        ["sha256sum", str(tmp_path / "lock")], capture_output=True, check=True, text=True
    ).stdout
    assert lockfile.identity(GOOD) == Digest("sha256", printed.split()[0])


def test_pcr_14_computed_by_hand() -> None:
    def sha256(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    data = lockfile.emit(SMALL)
    value = bytes(32)
    for event in (data, b"input config sha256:" + b"c" * 64 + b"\n", b"sealed\n"):
        value = sha256(value + sha256(event))
    assert lockfile.pcr14(data) == value


def test_an_input_by_name() -> None:
    assert SMALL.input("config") == CONFIG


def small(old: str, new: str) -> bytes:
    text = lockfile.emit(SMALL).decode()
    assert old in text
    return text.replace(old, new, 1).encode("utf-8")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "version is not 1"),
        (b"\xef\xbb\xbf" + GOOD, "not ASCII: byte 0"),
        (GOOD.replace(b"\n", b"\r\n"), "CRLF"),
        (small('"r"', '"é"'), "not ASCII"),
        (small('"r"', '"r" # comment'), "line 2 was"),
        (small('"r"', "'r'"), "line 2 was"),
        (small('"r"', '"\\u0072"'), "line 2 was"),
        (small("run =", "run="), "line 2 was"),
        (small("run =", "run  ="), "line 2 was"),
        (small("run =", '"run" ='), "line 2 was"),
        (small("run =", "a.run ="), "line 2 was"),
        (small("size = 1", "size = 1_0"), "line 10 was"),
        (small("size = 1", "size = 0x1"), "line 10 was"),
        (small("size = 1", "size = -1"), "line 10 was"),
        (small("size = 1", "size = " + "1" * 5000), "line 10 was"),
        (small("size = 1", "size = 01"), "line 10 was"),
        (small("size = 1", "size = 9999999999999999999"), "out of range"),
        (small("size = 1", 'size = "1"'), "size: expected an integer"),
        (small("size = 1", "size = true"), "size: expected an integer"),
        (small("size = 1\n", ""), "size: expected an integer"),
        (small("size = 1\n", "size = 1\nsize = 1\n"), "line 11 was"),
        (small("size = 1\n", "size = 1\nmore = 1\n"), "unknown key 'more'"),
        (small("size = 1\n", "allow-pickle = 1\nsize = 1\n"), "allow-pickle"),
        (small("size = 1\n", "size = 1\nallow-pickle = true\n"), "edited by hand"),
        (small("uri =", "allow-remote-code = false\nuri ="), "edited by hand"),
        (small("uri =", "allow-remote-code = true\nallow-pickle = true\nuri ="), "edited by hand"),
        (small("size = 1\n", "only = []\nsize = 1\n"), "edited by hand"),
        (small("size = 1\n", "only = [1]\nsize = 1\n"), "line [0-9]+ was"),
        (small("size = 1\n", 'only = "a"\nsize = 1\n'), "only: expected a list"),
        (small("size = 1\n", "signed-by = 1\nsize = 1\n"), "signed-by: expected a string"),
        (small("sha256:" + "c" * 64, "dirHash:" + "c" * 64), "config that is one file"),
        (small("sha256:", "md5:"), r"input\[0\]\.digest: not a digest"),
        (small('digest = "', 'digest = "x'), "not a digest"),
        (small('name = "config"', 'name = "other"'), "named config"),
        (small('name = "config"', "name = 1"), "name: expected a string"),
        (small('name = "config"', 'name = "Config"'), "is not a name"),
        (small('name = "config"', 'name = "-config"'), "is not a name"),
        (small('"path:c"', '""'), "printable ASCII"),
        (small('"path:c"', f'"{"x" * 1001}"'), "printable ASCII"),
        (small("version = 1", "version = 2"), "version is not 1"),
        (small("version = 1", "version = true"), "version is not 1"),
        (small("version = 1", 'version = "1"'), "version is not 1"),
        (small('run = "r"\n', ""), "lockfile.run: expected a string"),
        (small('run = "r"\n', 'run = "r"\nmore = "x"\n'), "lockfile has an unknown key 'more'"),
        (small('["m"]', "[]"), "at least one output"),
        (small('["m"]\n', '["m"]\nranks = 1\n'), "edited by hand"),
        (small('["m"]\n', '["m"]\nranks = 0\n'), "ranks is not a number from 1 to 64: 0"),
        (small('["m"]\n', '["m"]\nranks = 65\n'), "ranks is not a number from 1 to 64: 65"),
        (small('["m"]\n', '["m"]\nranks = "2"\n'), "ranks: expected an integer"),
        (small('["m"]\n', '["m"]\naudits = []\n'), "edited by hand"),
        (small('["m"]\n', '["m"]\naudits = ["b", "a"]\n'), "audits are not sorted by name"),
        (small('["m"]\n', '["m"]\naudits = ["../a"]\n'), "audit '../a' is not a name"),
        (small('["m"]\n', '["m"]\naudits = ["a"]\n'), "an input named a-config that is one file"),
        (small('["m"]\n', '["m"]\naudits = "a"\n'), "audits: expected a list of strings"),
        (small('["m"]', '["m", "m"]'), "outputs are not sorted"),
        (small('["m"]', '["n", "m"]'), "outputs are not sorted"),
        (small('["m"]', '["m",  "n"]'), "line 4 was"),
        (small('["m"]', '["m", "n", ]'), "line 4 was"),
        (small('["m"]', '["../m"]'), "output '../m' is not a name"),
        (small('["m"]', '"m"'), "outputs: expected a list"),
        (small("[[input]]", "[input]"), "input: expected a list of tables"),
        (small("[[input]]", "[[other]]"), "unknown key 'other'"),
        (small("\n\n[[input]]", "\n[[input]]"), "edited by hand"),
        (small("\n\n[[input]]", "\n\n\n[[input]]"), "edited by hand"),
        (lockfile.emit(SMALL)[:-1], "edited by hand"),
        (lockfile.emit(SMALL) + b"\n", "edited by hand"),
        (lockfile.emit(SMALL) + b" ", "line [0-9]+ was"),
        (HEAD + b'input = ["x"]\n', r"input\[0\]: expected a table"),
        (HEAD + b'input = "x"\n', "input: expected a list of tables"),
        (HEAD, "named config"),
        (b"version = 1\n" + b"[[input]]\n" * 1001, "input: expected a list of tables"),
        (b"#" * (lockfile.MAX_BYTES + 1), "larger than"),
    ],
)
def test_other_forms_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(LockError, match=message) as error:
        lockfile.parse(data)
    assert error.value.message.isprintable()


def changed(**facts: object) -> Lockfile:
    return replace(SMALL, inputs=(replace(CONFIG, **facts),))  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("locked", "message"),
    [
        (replace(SMALL, run=""), "run '' is not a name"),
        (replace(SMALL, trainer="a" * 64), "is not a name"),
        (replace(SMALL, outputs=()), "at least one output"),
        (replace(SMALL, outputs=tuple(f"m{n:04}" for n in range(1001))), "at least one output"),
        (replace(SMALL, inputs=()), "named config"),
        (replace(SMALL, inputs=(CONFIG, CONFIG)), "inputs are not sorted"),
        (replace(SMALL, inputs=(CONFIG, replace(CONFIG, name="a"))), "inputs are not sorted"),
        (
            replace(
                SMALL,
                inputs=(CONFIG, *(replace(CONFIG, name=f"d{n:04}") for n in range(1000))),
            ),
            "more than 1000 inputs",
        ),
        (changed(size=-1), "size is out of range"),
        (changed(size=2**63), "size is out of range"),
        (changed(source='a"b'), "input config: from: a lockfile holds printable"),
        (changed(uri="a\\b"), "input config: uri"),
        (changed(uri="a\nb"), "input config: uri"),
        (changed(uri="é"), "input config: uri"),
        (changed(only=("a", "")), "input config: only"),
        (changed(except_=("\t",)), "input config: except"),
        (changed(signed_by="someone"), "input config: signed-by is not a public key"),
        (changed(signed_by=f"p256:04{'0' * 64}"), "input config: signed-by is not a public key"),
        (changed(signed_by=f"p384:02{'0' * 64}"), "input config: signed-by is not a public key"),
    ],
)
def test_what_a_lockfile_cannot_hold(locked: Lockfile, message: str) -> None:
    with pytest.raises(LockError, match=message):
        lockfile.emit(locked)


def test_too_many_patterns_are_refused() -> None:
    many = changed(only=tuple(str(number) for number in range(101)))
    with pytest.raises(LockError, match="only: expected a list"):
        lockfile.parse(lockfile.emit(many))


def test_as_much_as_a_lockfile_can_hold() -> None:
    inputs = (CONFIG, *(replace(CONFIG, name=f"d{number:04}") for number in range(999)))
    outputs = tuple(f"m{number:04}" for number in range(1000))
    value = "v" * 1000
    full = replace(changed(uri=value), inputs=(replace(CONFIG, uri=value), *inputs[1:]))
    assert lockfile.parse(lockfile.emit(full)) == full
    assert lockfile.emit(replace(SMALL, outputs=outputs)).count(b'"m0') == 1000
    with pytest.raises(LockError, match="input config: uri: a lockfile holds printable"):
        lockfile.emit(changed(uri=value + "v"))


def test_a_lockfile_of_the_greatest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockfile, "MAX_BYTES", len(GOOD))
    assert lockfile.emit(lockfile.parse(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("locked", "message"),
    [
        (
            replace(SMALL, run="R" * 81),
            f"run '{'R' * 80}' is not a name: lowercase letters, digits and -, up to 63",
        ),
        (
            replace(SMALL, trainer=""),
            "trainer '' is not a name: lowercase letters, digits and -, up to 63",
        ),
        (
            changed(name="Config"),
            "input 'Config' is not a name: lowercase letters, digits and -, up to 63",
        ),
        (replace(SMALL, outputs=()), "a run has at least one output"),
        (replace(SMALL, inputs=()), "a run has an input named config that is one file"),
        (
            changed(signed_by="x" * 81),
            f"input config: signed-by is not a public key like p256:02…: '{'x' * 80}'",
        ),
        (
            changed(uri="é" * 81),
            "input config: uri: a lockfile holds printable ASCII without quotes or backslashes, "
            "found " + ascii("é" * 80),
        ),
    ],
)
def test_what_is_wrong_is_said_in_full(locked: Lockfile, message: str) -> None:
    with pytest.raises(LockError) as error:
        lockfile.emit(locked)
    assert error.value.message == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'version = 1\nrun = "r"\ninput = 3\n', "lockfile.input: expected a list of tables"),
        (
            re.sub(b'digest = ".*"', b"digest = 3", lockfile.emit(SMALL)),
            "input[0].digest: expected a string",
        ),
        (
            lockfile.emit(SMALL).replace(b'name = "config"', b"name = 3"),
            "input[0].name: expected a string",
        ),
    ],
)
def test_what_is_missing_is_said_in_full(data: bytes, message: str) -> None:
    with pytest.raises(LockError) as error:
        lockfile.parse(data)
    assert error.value.message == message


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"from": 3}, "input[0].from: expected a string"),
        ({"uri": 3}, "input[0].uri: expected a string"),
        ({"signed-by": 3}, "input[0].signed-by: expected a string"),
        ({"except": 3}, "input[0].except: expected a list of strings"),
        ({"key": 3}, "input[0] has an unknown key 'key'"),
    ],
)
def test_a_field_of_an_input_is_named_with_its_place(
    changes: dict[str, object], where: str
) -> None:
    table = tomllib.loads(lockfile.emit(SMALL).decode())["input"][0] | changes
    # The reader accepts this content; whether it is in canonical form is checked afterwards.
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    with pytest.raises(LockError) as error:
        lockfile.parse(HEAD + b"\n[[input]]\n" + text.encode())
    assert error.value.message == where


def test_as_many_patterns_as_there_may_be() -> None:
    most = changed(except_=tuple(str(number) for number in range(100)))
    assert lockfile.parse(lockfile.emit(most)) == most


def test_another_version_says_how_to_make_this_one() -> None:
    with pytest.raises(LockError) as error:
        lockfile.parse(b"version = 2\n")
    assert (error.value.message, error.value.hint) == ("lockfile version is not 1", "./doit lock")


def test_line_ends_of_another_system_are_named_and_what_to_do() -> None:
    with pytest.raises(LockError) as caught:
        lockfile.parse(GOOD.replace(b"\n", b"\r\n"))
    assert caught.value.message == "lockfile has CRLF line ends"
    assert caught.value.hint == "git config core.autocrlf false, then check it out again"


def audited(number: int) -> Lockfile:
    """Return the lockfile of a run that names `number` audits."""
    audits = tuple(f"a{one:02}" for one in range(number))
    configs = [replace(CONFIG, name=lockfile.audit_input(audit, "config")) for audit in audits]
    return replace(SMALL, audits=audits, inputs=(*configs, CONFIG))


def test_audits_stand_before_the_inputs_and_are_not_too_many() -> None:
    data = lockfile.emit(audited(2))
    assert data.startswith(HEAD + b'audits = ["a00", "a01"]\n\n[[input]]\nname = "a00-config"\n')
    assert lockfile.parse(lockfile.emit(audited(16))) == audited(16)
    with pytest.raises(LockError, match="more than 16 audits"):
        lockfile.emit(audited(17))


def test_the_config_of_an_audit_is_one_file() -> None:
    (config, own) = audited(1).inputs
    folder = replace(config, digest=Digest("dirHash", "c" * 64))
    with pytest.raises(LockError, match="a run has an input named a00-config that is one file"):
        lockfile.emit(replace(audited(1), inputs=(folder, own)))
