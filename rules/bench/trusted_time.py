"""What time stamps and a log's proof add to `aicert verify`: CPU seconds of whole processes, with
and without them, run in turn so that a busy machine slows both.

The certificate is one of the tests', with a token from an authority with an intermediate CA, a
proof from a log of 1,000 entries, and two witnesses' cosignatures.
"""

import os
import subprocess
import sys
from pathlib import Path

from aicert.appraisal.evidence.trusted_time import encode
from aicert.errors import ToolError
from aicert.formats import certificate as certificates
from aicert.frozen import replace
from aicert.log import check, keys, witness, writer
from aicert.tlog import proofs
from aicert.tlog.entry import entry_of
from aicert.tlog.notes import COSIGNATURE

ENTRIES, TIMES, MOST_MS = 1000, 41, 10


def measure(folder: Path) -> tuple[float, float]:
    """Measure `aicert verify`. Return the milliseconds for a certificate without time stamps and
    proof, and how many more it takes with all of them.
    """
    # The tests' certificates and authorities, because only those have times that we can choose.
    from tests.adversarial import ca_forge
    from tests.adversarial.forger import AT, Scene
    from tests.adversarial.time_forge import Token
    from tests.vectors.generate import policy_files

    scene = Scene("cloud", 2)
    bare, full = folder / "bare.json", folder / "full.json"
    bare.write_bytes(scene.get("file"))
    certificate = certificates.parse(bare.read_bytes())
    digest = bytes.fromhex(certificates.core_digest(certificate).hex)
    token = Token().with_(middle=({"name": "between"},), digest=digest)
    proof, tables = _logged(folder, entry_of(certificate), int(AT.timestamp()) - 18_000)
    stamps = (encode(token.der()), proofs.encode(proof))
    evidence = replace(certificate.evidence, timestamps=stamps)
    full.write_bytes(certificates.emit(replace(certificate, evidence=evidence)))
    for name, text in policy_files(scene.get("policy")).items():
        (folder / name).write_text(text)
    (folder / "time.pem").write_bytes(ca_forge.pem(token.root()))
    policy, both = folder / "policy.toml", folder / "both.toml"
    both.write_text(
        f'require = ["time", "log"]\n{policy.read_text()}[[time-authority]]\nname = "t"\n'
        f'certificate = "time.pem"\nsha256 = "{ca_forge.hash_of(token.root())}"\n{tables}'
    )
    at = ["--certificate-only", "--at", AT.isoformat()]
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMES):
        taken[0].append(_seconds([str(bare), "--policy", str(policy), *at]))
        taken[1].append(_seconds([str(full), "--policy", str(both), *at]))
    # The least, because other work on this computer only adds.
    without, more = map(min, taken)
    return without * 1000, (more - without) * 1000


def _logged(folder: Path, entry: bytes, time: int) -> tuple[bytes, str]:
    """Return the proof of an entry in a log with two cosignatures, and the policy's tables."""
    log = folder / "log"
    key_file = writer.key_path(log)
    key = writer.start(log, "log.example/bench", key_file).public
    others = [b"entry %d" % number for number in range(ENTRIES - 1)]
    writer.append(log, key_file, [*others, entry])
    tables = f'[[log]]\nname = "l"\nkey = "{key}"\n'
    for name in ("first", "second"):
        file = folder / f"{name}.key"
        private = keys.create(file, f"witness.example/{name}", COSIGNATURE)
        cosigned = witness.cosign(log, file, private, key, now=lambda: time)
        witness.publish(log, cosigned.note, key)
        tables += f'[[witness]]\nname = "{name}"\nkey = "{private.public}"\n'
    return check.prove(log, key, entry)[1], tables


def _seconds(words: list[str]) -> float:
    """Return the CPU seconds of a verification that passes."""
    code = "import sys; from aicert.cli.main import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "verify", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise ToolError(f"aicert verify failed with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime
