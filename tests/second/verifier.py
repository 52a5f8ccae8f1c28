"""A second verifier, written from docs/spec/ alone: it shares no code with `aicert`.

It returns the verdict and the first check that fails (or, if there is no verdict, that is left
open), for differential tests over tests/vectors. It uses the standard library and cryptography. It
does not read model directories, write texts for people, or support policies that extend other files
and the boot event log.
"""

import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.second import audits as second_audits
from tests.second import chip as second_chip
from tests.second import compute as second_compute
from tests.second import demanded, forms
from tests.second import gpu as second_gpu
from tests.second import log as logs
from tests.second import td as second_td
from tests.second import time as second_time
from tests.second import training as second_training
from tests.second.chain import NoError, OpenError, Root, check_signature, need, verify_chain
from tests.second.checks import CHECKS, NotAskedError
from tests.second.forms import Attest, Lock, replay, sha, unbase64
from tests.second.statement import Statement

TIERS = ("software", "measured-vm", "vtpm", "confidential", "confidential-gpu")
CHIP = ("platform.chip", "platform.guest", "platform.binding")
TWO_QUESTIONS = ("inputs.lockfile", "lineage.ancestors")


@dataclass(kw_only=True)
class Question:
    """What a verifier is asked to judge. `model` maps paths to SHA-256 in hex."""

    certificate: bytes
    policy: Mapping[str, Any]
    roots: Sequence[Root]
    at: datetime
    model: Mapping[str, str] | None = None
    lockfile: str | None = None
    nonce: bytes | None = None
    ancestors: Sequence[bytes] | None = None
    audits: Sequence[tuple[bytes, bytes]] | None = None
    busy: frozenset[int] = frozenset()
    seen: set[int] = field(default_factory=set)


def judge(question: Question) -> tuple[str, str | None]:
    """Return the verdict (which may be `malformed`) and the check that is its reason."""
    try:
        appraisal = Appraisal(question)
    except NoError:
        return "malformed", None
    return appraisal.verdict()


class Appraisal:
    """The appraisal of one certificate; `verdicts` has the verdict of every check."""

    def __init__(self, question: Question) -> None:
        self.asked = question
        document = forms.strict_json(question.certificate, forms.CERT["certificate file"])
        forms.fit(document, forms.CERTIFICATE)
        self.document, self.evidence = document, document["evidence"]
        self.payload = unbase64(document["envelope"]["payload"])
        self.nonce = bytes.fromhex(self.evidence["nonce"])
        self.pcrs = {int(i): bytes.fromhex(v) for i, v in self.evidence["pcrs"].items()}
        self.run_public = unbase64(self.evidence["runKey"]["public"])
        self.lockfile = document["lockfile"]
        self.seconds: float | None = None
        self.existed: datetime | None = None
        self.began: datetime | None = None
        self.verdicts: dict[str, str] = {}
        self.lock: Lock | None = None
        self.td: second_td.Quote | None = None
        self.before: dict[tuple[str, ...], Appraisal] = {}
        self._decide_all()

    def decide(self, check: str, work: Callable[[], object], *needs: str) -> None:
        if any(self.verdicts[one] != "ok" for one in needs):
            self.verdicts[check] = "not-checked"
            return
        try:
            work()
        except NoError:
            self.verdicts[check] = "failed"
        except OpenError:
            self.verdicts[check] = "not-checked"
        except NotAskedError:
            self.verdicts[check] = "not-applicable"
        else:
            self.verdicts[check] = "ok"

    def _decide_all(self) -> None:
        decide = self.decide
        try:
            self.lock = Lock(self.lockfile)
            self.verdicts["readable"] = "ok"
        except NoError:
            self.verdicts["readable"] = "failed"
        decide("inputs.lockfile", self._lockfile)
        decide("time.token", self._token)
        decide("log.included", self._included)
        decide("log.witnessed", self._witnessed)
        decide("platform.chain", self._chain)
        self._decide_chip()
        decide("quote.signature", self._quote_signature, "platform.chain")
        decide("quote.structure", self._quote_structure, "quote.signature")
        decide("quote.nonce", self._quote_nonce, "quote.structure")
        decide("quote.pcrs", self._quote_pcrs, "quote.nonce")
        decide("runkey.certified", self._run_key, "quote.pcrs")
        decide("runkey.time", self._run_time, "runkey.certified")
        decide("time.not-before", self._not_before, "runkey.certified")
        decide("statement.signature", self._statement_signature, "runkey.certified")
        decide("statement.form", self._statement_form, "statement.signature", "readable")
        self._decide_tier()
        self._decide_boot()
        decide("inputs.pcr14", self._pcr14, "quote.pcrs", "readable")
        form = "statement.form"
        decide("inputs.records", self._records, form)
        decide("outputs.exit", lambda: need(self.statement.exit == "0"), form)
        decide("outputs.pcr8", self._pcr8, form, "quote.pcrs")
        decide("outputs.nonempty", self._nonempty, form)
        decide("outputs.trained", self._trained, form)
        decide("outputs.derived", self._derived, form)
        decide("outputs.results", self._results, form)
        decide("subject.files", self._files, form, "outputs.pcr8")
        self.code = set(self.lock.code) if self.lock else set()
        decide("lineage.ancestors", self._lineage, form, "inputs.pcr14")
        decide("policy.claims", self._claims, form, "outputs.pcr8")
        decide("policy.age", partial(second_time.check_age, self), form)
        decide("policy.compute", partial(second_compute.check, self), form, "outputs.pcr8")
        demanded.decide_audits(self)
        demanded.decide_evaluations(self)

    # certificate.md, "Checks", in its order.

    def _lockfile(self) -> None:
        need(self.lock is not None)
        if self.asked.lockfile is None:
            raise OpenError
        need(self.asked.lockfile == "sha256:" + sha(self.lockfile.encode()).hex())

    # time.md, "Checks"

    def _token(self) -> None:
        self.existed = second_time.existed(self.document, self.asked.policy, self.asked.at)
        if self.existed is None:
            raise NotAskedError

    # log.md, "Checks"

    def _included(self) -> None:
        self.notes = logs.included(self.document, self.asked.policy)
        if not self.notes:
            raise NotAskedError

    def _witnessed(self) -> None:
        included = self.verdicts["log.included"]
        if included == "not-applicable" or not self.asked.policy.get("witness"):
            raise NotAskedError
        if included != "ok":
            raise OpenError
        time = logs.witnessed(self.notes, self.asked.policy, self.asked.at)
        self.existed = time if self.existed is None else min(self.existed, time)

    def _not_before(self) -> None:
        self.began = second_time.began(self.document, self.asked.policy, self.asked.at)
        if self.began is None:
            raise NotAskedError

    def _chain(self) -> None:
        chain = [unbase64(one) for one in self.evidence["akChain"]]
        self.ak, self.root = verify_chain(chain, self.asked.roots, self.existed or self.asked.at)

    # confidential.md, "Checks"

    def _decide_chip(self) -> None:
        checks, decide = CHIP, self.decide
        if self.verdicts["platform.chain"] == "ok" and self.root.tier not in TIERS[3:]:
            self.verdicts |= dict.fromkeys(checks, "not-applicable")
            return
        decide("platform.chip", self._chip, "platform.chain")
        decide("platform.guest", self._guest, "platform.chip")
        decide("platform.binding", self._binding, "platform.chip")

    # gpu.md, "Check"

    def _decide_tier(self) -> None:
        checks = tuple(one for one in CHIP if self.verdicts[one] != "not-applicable")
        if self.verdicts["platform.chain"] != "ok" or self.root.tier != TIERS[4]:
            self.decide("platform.gpu", self._not_asked, "platform.chain")
        else:
            self.decide("platform.gpu", self._gpu, *checks, "statement.form")
            checks = (*checks, "platform.gpu")
        self.decide("platform.tier", self._tier, "platform.chain", *checks)

    def _not_asked(self) -> None:
        raise NotAskedError

    def _gpu(self) -> None:
        given, makers = self.evidence.get("gpus"), self.asked.policy.get("gpu", ())
        if given is None or not makers:
            raise OpenError
        second_gpu.check_named(given, self.statement.builder.get("gpus"))
        nonce = sha(b"aicert gpu v1\0" + self.nonce + self._name())
        second_gpu.check(given, makers, nonce, self.asked.at)

    def _chip(self) -> None:
        given, roots = self.evidence.get("platform"), self.asked.policy.get("chip", ())
        if given is None:
            raise OpenError
        report = unbase64(given["report"])
        if given["kind"] == "azure-hcl":
            self.wrapped = second_chip.Report(report)
        if given["kind"] == "tdx" or self.wrapped.kind == 4:
            self._trust_domain(given)
            return
        if not roots:
            raise OpenError
        self.wrapped.check_snp()
        if "chipCertificate" not in given:
            raise OpenError
        der = unbase64(given["chipCertificate"])
        self.maker = self.wrapped.check_chip(der, roots, self.asked.at)

    # tdx.md, "Checks"

    def _trust_domain(self, given: Mapping[str, Any]) -> None:
        makers = self.asked.policy.get("tdx", ())
        quote = given.get("quote") if given["kind"] == "azure-hcl" else given["report"]
        if not makers or quote is None:
            raise OpenError
        self.td = td = second_td.Quote(unbase64(quote))
        collateral = given.get("collateral")
        words = None if collateral is None else unbase64(collateral)
        self.maker = td.check_chip(words, makers, self.asked.at)

    def _guest(self) -> None:
        if self.td is not None:
            self.td.check_guest(self.maker)
            accepted = self.asked.policy.get("td", ())
            if not accepted:
                raise OpenError
            self.td.check_td(accepted, self.asked.at)
            return
        self.wrapped.check_guest(self.maker["minimum-tcb"])
        launches = self.asked.policy.get("launch", ())
        if not launches:
            raise OpenError
        self.wrapped.check_launch(launches, self.maker["name"], self.asked.at)

    def _binding(self) -> None:
        if self.td is None:
            self.wrapped.check_binding(self.ak, self.wrapped.snp[0x50:0x90])
        elif self.evidence["platform"]["kind"] == "tdx":
            self.td.check_bare(self.nonce, self.ak)
        else:
            self.wrapped.check_binding(self.ak, self.td.body[520:584])

    def _tier(self) -> None:
        need(TIERS.index(self.root.tier) >= TIERS.index(self.asked.policy["tier"]))

    def _signed(self, by: Mapping[str, str]) -> tuple[bytes, hashes.HashAlgorithm]:
        attest = unbase64(by["attest"])
        return attest, check_signature(self.ak, unbase64(by["signature"]), attest)

    def _quote_signature(self) -> None:
        self.quote_bytes, self.quote_hash = self._signed(self.evidence["quote"])

    def _quote_structure(self) -> None:
        self.quote = Attest(self.quote_bytes, 0x8018)
        self.pcr_digest = forms.quote_digest(self.quote.rest)

    def _quote_nonce(self) -> None:
        need(self.asked.nonce is None or second_time.answers(self.document, self.asked.nonce))
        bound = b"aicert quote v1\0" + self.nonce + self._name() + sha(self.payload)
        need(self.quote.extra == sha(bound))

    def _name(self) -> bytes:
        return b"\x00\x0b" + sha(self.run_public)

    def _quote_pcrs(self) -> None:
        values = b"".join(self.pcrs[index] for index in range(16))
        need(self.pcr_digest == hashlib.new(self.quote_hash.name, values).digest())

    def _run_key(self) -> None:
        attest, _ = self._signed(self.evidence["runKey"]["certify"])
        attested = Attest(attest, 0x8017)
        name = self._name()
        qualified = b"\x00\x0b" + sha(bytes.fromhex("40000007") + name)
        need(attested.rest == b"\x00\x22" + name + b"\x00\x22" + qualified)
        need(attested.extra == self.nonce and attested.boot == self.quote.boot)
        self.run_key = forms.run_key_of(self.run_public)
        self.started = attested.clock

    def _run_time(self) -> None:
        if self.document["version"] == 1:
            raise NotAskedError
        need(self.started <= self.quote.clock)
        self.seconds = (self.quote.clock - self.started) / 1000

    def _statement_signature(self) -> None:
        kind = b"application/vnd.in-toto+json"
        pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)
        signature = unbase64(self.document["envelope"]["signatures"][0]["sig"])
        try:
            self.run_key.verify(signature, pae, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise NoError("statement") from None

    def _statement_form(self) -> None:
        self.statement = Statement(self.payload, self.lock, self.lockfile, self.nonce)
        need(self.statement.report["version"] == self.document["version"])

    # policy.md, "Machine images"

    def _decide_boot(self) -> None:
        tier_ok = self.verdicts["platform.tier"] == "ok"
        if tier_ok and self.asked.policy["tier"] == self.root.tier == "software":
            self.verdicts |= {check: "not-applicable" for check in CHECKS if check[:5] == "boot."}
            return
        self.decide("boot.image", self._image, "platform.tier", "statement.form")
        for check, pcrs in (("pcr4", (4,)), ("pcr11", (11,)), ("pcr12-13", (12, 13))):
            self.decide(f"boot.{check}", partial(self._booted, pcrs), "boot.image")
        self.decide("boot.firmware", self._firmware, "platform.tier", "quote.pcrs")

    def _image(self) -> None:
        images = self.asked.policy.get("images", {})
        text = self.document.get("imageLock")
        if not images.get("accepted") or text is None:
            raise OpenError
        digest = "sha256:" + sha(text.encode()).hex()
        need(digest not in images.get("revoked", []) and digest in images["accepted"])
        self.image = tomllib.loads(text)
        for part in self.image.get("verity", []):
            need(self.statement.builder.get(part["name"]) == part["digest"])

    def _booted(self, pcrs: Sequence[int]) -> None:
        for index in pcrs:
            need(self.pcrs[index].hex() == self.image["pcrs"][f"pcr{index}"])

    def _firmware(self) -> None:
        accepted = self.asked.policy.get("firmware", [])
        if not accepted:
            raise OpenError
        registers = {f"pcr{index}": self.pcrs[index].hex() for index in (0, 1, 2, 3, 7)}
        sets = [[one] for one in accepted if "family" not in one]
        families = {one["family"] for one in accepted if "family" in one}
        sets += [[one for one in accepted if one.get("family") == name] for name in families]
        need(any(all(any(one[key] == value for one in some) for key, value in registers.items())
                 for some in sets))  # fmt: skip

    # measurement.md

    def _pcr14(self) -> None:
        if self.lock is None:
            raise NoError("lockfile")
        events = [f"input {name} {digest}\n" for name, _, _, digest in self.lock.inputs]
        need(self.pcrs[14] == replay([t.encode() for t in (self.lockfile, *events, "sealed\n")]))

    def _pcr8(self) -> None:
        statement = self.statement
        for name, digest in statement.digests.items():
            need(forms.dir_hash(statement.files[name]) == digest)
        outputs = [
            f"output {name} {statement.digests[name]}\n" for name in sorted(statement.digests)
        ]
        lines = [
            f"exit {statement.exit}\n",
            *outputs,
            f"report {statement.report_digest}\n",
            "sealed\n",
        ]
        need(self.pcrs[8] == replay([line.encode() for line in lines]))

    def _nonempty(self) -> None:
        need(
            all(
                set(files.values()) - {hashlib.sha256(b"").hexdigest()}
                for files in self.statement.files.values()
            )
        )

    def _number(self, key: str) -> Any:
        value = self.statement.report["values"].get(key, {}).get("value")
        need(type(value) in (int, float))
        return value

    def _records(self) -> None:
        if self.statement.report["version"] == 1:
            raise NotAskedError
        if self.lock:
            second_training.check_records(self.statement.report, self.lock)

    def _kind(self, *own: str) -> None:
        trainer = self.lock.trainer if self.lock else ""
        if trainer not in ("audit", "axolotl", *second_audits.DERIVED, *demanded.EVALUATE):
            raise OpenError
        if trainer not in own:
            raise NotAskedError

    def _results(self) -> None:
        self._kind("audit", *demanded.EVALUATE)
        report = self.statement.report
        need([list(files) for files in self.statement.files.values()] == [["results.json"]])
        need("loss" not in report and not report["unchangedWeights"]["value"])
        need(report["version"] == 2 and report["records"]["value"])
        if self.lock and self.lock.trainer in demanded.EVALUATE:
            second_audits.check_named(report, self.lock.inputs, "baseInput")

    def _compared(self) -> list[Any]:
        compared = [self._number(f"tensors{kind}") for kind in ("Changed", "New", "Unchanged")]
        need(min(compared) >= 0 and sum(compared[:2]) > 0)
        need("weightsUnread" not in self.statement.report["values"])
        for kind in ("Changed", "New", "Unchanged"):
            origin = self.statement.report["values"][f"tensors{kind}"]["origin"]
            need(origin == "measured" or bool(self.lock and self.lock.code))
        return compared

    def _derived(self) -> None:
        self._kind(*second_audits.DERIVED)
        report, lock = self.statement.report, self.lock
        may_add = lock and lock.trainer == second_audits.QUANTISE
        rows = report.get("records", {}).get("value")
        need(report.get("loss") is None and (may_add or not rows))
        new = self._compared()[1]
        need((may_add or not new) and lock and not lock.code)
        if lock and lock.trainer == second_audits.CONVERT:
            need([[*one] for one in self.statement.files.values()] == [["model.gguf"]])
        second_audits.check_derived(report, lock)

    def _trained(self) -> None:
        self._kind("axolotl")
        need(self._number("steps") > 0)
        need(not self.statement.report["unchangedWeights"]["value"] and self.lock)
        self._compared()
        inputs = {digest for _, _, _, digest in self.lock.inputs} if self.lock else set()
        need(not inputs & set(self.statement.digests.values()))
        files = [
            (path, f"sha256:{hex_}")
            for f in self.statement.files.values()
            for path, hex_ in f.items()
        ]
        weights = {digest for path, digest in files if path.endswith(".safetensors")}
        need(weights and not inputs & weights)
        if self.statement.report["version"] == 2 and not second_training.is_measured(
            self.statement.report
        ):
            raise OpenError
        second_compute.check_own_count(self)

    def _files(self) -> None:
        model = self.asked.model
        if model is None:
            raise OpenError
        for files in self.statement.files.values():
            beside = set(model) - set(files)
            same = {path: model.get(path) for path in files} == files
            same = same and not any(map(forms.unread, files))
            if same and all(forms.inert(path) for path in beside):
                return
        raise NoError("files")

    def _claims(self) -> None:
        if not self.code <= set(self.asked.policy.get("allow", ())):
            raise OpenError
        if not self.asked.policy.get("claim") and not self.code:
            raise NotAskedError
        derived = second_training.derived(self.statement.report, self.seconds)
        for claim in self.asked.policy.get("claim", ()):
            number = derived.get(claim["name"])
            origin = "derived"
            if claim["name"] not in derived:
                number = self._number(claim["name"])
                origin = self.statement.report["values"][claim["name"]]["origin"]
                own = self.lock.code if self.lock else set()
                origin = "self-reported" if own else origin
            need(number is not None)
            need(origin in claim.get("origins", ("measured", "derived")))
            need(claim.get("at-least", number) <= number <= claim.get("at-most", number))

    def _lineage(self) -> None:
        inputs = [item for item in self.lock.inputs if item[1][:4] == "run:"] if self.lock else []
        if not inputs:
            raise NotAskedError
        if self.asked.ancestors is None:
            raise OpenError
        wanted = {(*source[4:].split("/", 1), digest) for _, source, _, digest in inputs}
        need(wanted <= self._ancestors(self.asked.ancestors, wanted))

    def _ancestors(
        self, certificates: Sequence[bytes], wanted: set[tuple[str, ...]]
    ) -> set[tuple[str, ...]]:
        """Return run, output and digest of each consistent ancestor of the wanted runs."""
        runs = {run for run, *_ in wanted}
        good: set[tuple[str, ...]] = set()
        for number, data in enumerate(certificates):
            if number in self.asked.busy or forms.claimed_run(data) not in runs:
                continue
            self.asked.seen.add(number)
            own = {key: value for key, value in self.asked.policy.items() if key != "evaluation"}
            need(len(self.asked.seen) <= forms.CERT["ancestors that are appraised"])
            older = Appraisal(
                replace(
                    self.asked, certificate=data, policy=own, model=None, lockfile=None, nonce=None,
                    busy=self.asked.busy | {number},
                )
            )  # fmt: skip
            if older.consistent():
                certified = older.statement.digests.items()
                shown = {(older.lock.run, *item) for item in certified if older.lock}
                good |= shown
                self.before |= dict.fromkeys(shown & wanted, older)
                self.code |= older.code if shown & wanted else set()
        return good

    def verdict(self) -> tuple[str, str | None]:
        """Return `passed`, `failed` or `none`, and the check that is the reason."""
        for word, verdict in (("failed", "failed"), ("not-checked", "none")):
            for check in CHECKS:
                optional = verdict == "none" and check in TWO_QUESTIONS
                if self.verdicts[check] == word and not optional:
                    return verdict, check
        return "passed", None

    def consistent(self) -> bool:
        """Whether no check failed, and none is open except for the model's and those that may stay
        open.
        """
        may_be_open: tuple[str, ...] = (*TWO_QUESTIONS, "subject.files", "policy.compute")
        # The run that builds on this one is asked for the same claims, and for the compute.
        may_be_open += ("policy.claims",) if self.code else ()
        left = {self.verdicts[check] for check in CHECKS if check not in may_be_open}
        failed = any(self.verdicts[check] == "failed" for check in CHECKS)
        return not failed and "not-checked" not in left
