"""The second verifier's reading of a statement (certificate.md, "Statement" and "Run report")."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tests.second import forms
from tests.second.chain import NoError, need
from tests.second.forms import Lock, digest_of, sha, unbase64


class Statement:
    """A statement's content. Raises NoError unless it is sound and repeats `lock` and `nonce`."""

    def __init__(self, payload: bytes, lock: Lock | None, lockfile: str, nonce: bytes) -> None:
        statement = forms.strict_json(payload, forms.CERT["statement"])
        forms.fit(statement, forms.STATEMENT)
        build = statement["predicate"]["buildDefinition"]
        details = statement["predicate"]["runDetails"]
        parameters = build["externalParameters"]
        if lock is None:
            raise NoError("lockfile")
        need(details["metadata"]["invocationId"] == nonce.hex())
        need(parameters["lockfile"] == "sha256:" + sha(lockfile.encode()).hex())
        need((parameters["run"], parameters["trainer"]) == (lock.run, lock.trainer))
        need(parameters["outputs"] == lock.outputs)
        inputs = [(d["name"], d["uri"], digest_of(d)) for d in build["resolvedDependencies"]]
        need(inputs == [(name, uri, digest) for name, _, uri, digest in lock.inputs])
        self._builder(details["builder"]["builderDependencies"])
        self._outputs(statement["subject"], lock.outputs)
        self._report(details["byproducts"])
        need(self.report.get("signers", {"value": {}})["value"] == lock.signers)
        need(sorted(self.report.get("audits", {"value": {}})["value"]) == lock.audits)
        try:
            started, self.finished = (
                datetime.fromisoformat(details["metadata"][key])
                for key in ("startedOn", "finishedOn")
            )
        except ValueError:
            raise NoError("time") from None
        need(started <= self.finished)

    def _builder(self, dependencies: Sequence[Any]) -> None:
        self.builder = {d["name"]: digest_of(d) for d in dependencies}
        need([d["name"] for d in dependencies] == sorted(self.builder))
        need(all(re.fullmatch(forms.NAME, name) for name in self.builder))

    def _outputs(self, subject: Sequence[Any], declared: Sequence[str]) -> None:
        self.digests: dict[str, str] = {}
        self.files: dict[str, dict[str, str]] = {name: {} for name in declared}
        for entry in subject:
            output, slash, path = entry["name"].partition("/")
            kind, _, value = digest_of(entry).partition(":")
            need(output in self.files and kind == ("sha256" if slash else "dirHash"))
            group = self.files[output] if slash else self.digests
            need((path if slash else output) not in group)
            group[path if slash else output] = value if slash else f"dirHash:{value}"
        need(set(self.digests) == set(declared))
        for files in self.files.values():
            forms.check_paths(list(files))

    def _report(self, byproducts: Sequence[Any]) -> None:
        for byproduct, form in zip(byproducts, forms.BYPRODUCTS, strict=True):
            forms.fit(byproduct, form)
            digest_of(byproduct)
        content = unbase64(byproducts[0]["content"])
        self.report_digest = "sha256:" + sha(content).hex()
        need(digest_of(byproducts[0]) == self.report_digest)
        self.report = forms.strict_json(content, forms.RUN["run report"])
        forms.fit_report(self.report)
        self.exit = self.report["exitCode"]["value"]
        signed = self.report.get("signatures", {"value": {}})["value"]
        need(set(signed) <= set(self.files))
