"""terraform in a folder of its own, with its module, variables and state.

The folder contains everything that a later command needs to destroy what was created, so it is
removed only when nothing is left. terraform is interrupted so that it saves its state; it is never
killed.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aicert.errors import ToolError
from rules.host.bootstrap import cache_directory
from rules.machines.azure import errors as azure_errors

STATE = "terraform.tfstate"
LOG = "terraform.log"
_VARIABLES = "run.auto.tfvars.json"
_PLAN = "plan"
_BEGUN = "applying"
_MAX_TEXT = 1 << 20
Note = Callable[[str], None]


def require_program() -> None:
    """Raise ToolError if terraform is not installed."""
    if shutil.which("terraform") is None:
        raise ToolError(
            "terraform is not installed",
            hint="https://developer.hashicorp.com/terraform/install (1.6 or newer)",
        )


class Terraform:
    """One module in one folder. Methods raise the AicertErrors of `errors.explain`."""

    def __init__(self, folder: Path, note: Note = lambda _: None) -> None:
        self.folder = folder
        # Outside the folder, which is removed after success.
        self.log = folder.with_name(LOG)
        self._note = note
        require_program()

    @classmethod
    def in_copy_of(cls, module: Path, folder: Path, note: Note) -> "Terraform":
        """Make a new folder with a copy of the module, so that later changes do not affect this
        run.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The state contains the storage account's key.
        folder.mkdir(mode=0o700)
        for path in (*module.glob("*.tf"), *module.glob(".terraform.lock.hcl")):
            shutil.copyfile(path, folder / path.name)
        return cls(folder, note)

    @property
    def may_have_made_something(self) -> bool:
        """Whether there may be something to destroy; true if the state does not tell."""
        return self._resources() is not False

    def check_destroyable(self) -> None:
        """Raise ToolError if something may exist that the state does not name: destroying would do
        nothing and report success.
        """
        if self._resources() is None:
            raise ToolError(
                f"{self.folder / STATE} does not say what was created: resource group "
                f"{self.folder.name} may exist and cost money",
                hint=f"az group delete --name {self.folder.name}, then rm -r {self.folder}",
            )

    def _resources(self) -> bool | None:
        """Whether the state names resources. None if it is unclear: the state is truncated, or
        missing while its backup exists, or an apply began and never ended.
        """
        try:
            state = json.loads((self.folder / STATE).read_bytes())
        except FileNotFoundError:
            begun = any((self.folder / name).exists() for name in (_BEGUN, f"{STATE}.backup"))
            return None if begun else False
        except ValueError:
            return None
        resources = state.get("resources") if isinstance(state, dict) else None
        return bool(resources) if isinstance(resources, list) else None

    def init(self) -> None:
        """Fetch the provider, once for all runs that share this cache."""
        self._note("terraform init")
        self._run("init", "-no-color")

    def apply(self, variables: Mapping[str, object]) -> None:
        """Plan with these variables, which later calls keep, and apply the plan."""
        self.set_variables(variables)
        self._note("terraform plan")
        self._run("plan", "-json", f"-out={_PLAN}")
        # Until terraform has saved its state, nothing records what it created.
        begun = self.folder / _BEGUN
        begun.touch()
        self._run("apply", "-json", _PLAN, ended=begun.unlink)

    def refresh(self) -> None:
        """Refresh the state without changing anything; the outputs then show it."""
        self._run("apply", "-json", "-refresh-only", "-auto-approve")

    def set_variables(self, variables: Mapping[str, object]) -> None:
        """Keep these variables for all later calls, in addition to earlier ones."""
        path = self.folder / _VARIABLES
        kept = json.loads(path.read_bytes()) if path.exists() else {}
        path.write_text(json.dumps({**kept, **variables}, indent=2), encoding="utf-8")

    def output(self, name: str) -> Any:
        """Return an output of the module, including secret ones."""
        outputs = json.loads(self._run("output", "-no-color", "-json"))
        try:
            return outputs[name]["value"]
        except (KeyError, TypeError):
            raise ToolError(f"terraform returned no output {name}") from None

    def adopt(self, address: str, identity: str) -> None:
        """Import an existing resource into this state."""
        self._run("import", "-no-color", address, identity)

    def destroy(self) -> None:
        """Destroy everything that the state names. Ctrl-C waits until it is done."""
        with _uninterrupted():
            self._run("destroy", "-json", "-auto-approve")

    def _run(self, action: str, *options: str, ended: Callable[[], None] = lambda: None) -> str:
        """Run terraform. `ended` is called if terraform ended by itself, with or
        without success.
        """
        words = ["terraform", f"-chdir={self.folder}", action]
        words += [] if action == "output" else ["-input=false"]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*words, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if action != "output" else log,
                env=_environment(),
                # We handle the terminal's Ctrl-C and then interrupt terraform ourselves.
                start_new_session=True,
            )
            lines: list[bytes] = []
            try:
                with process, _ended_in_order(process):
                    for line in process.stdout or ():
                        if action != "output":
                            # An output may be a secret.
                            log.write(line)
                        lines.append(line)
                        self._show(line)
            finally:
                if (process.returncode or 0) >= 0:
                    ended()
        text = b"".join(lines).decode("utf-8", "replace")[-_MAX_TEXT:]
        if process.returncode != 0:
            raise azure_errors.explain(action, _errors(text), self.log)
        return text

    def _show(self, line: bytes) -> None:
        event = _event(line)
        if event.get("type") in ("apply_start", "apply_complete", "planned_change"):
            self._note(str(event.get("@message", "")))


def _environment() -> Mapping[str, str]:
    shared = cache_directory() / "terraform"
    shared.mkdir(parents=True, exist_ok=True)
    defaults = {"TF_PLUGIN_CACHE_DIR": str(shared)}
    ours = {"TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    return {**defaults, **os.environ, **ours}


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _errors(text: str) -> str:
    """Return the errors in terraform's output; all of it if terraform does not print JSON."""
    errors = []
    for line in text.splitlines():
        diagnostic = _event(line.encode()).get("diagnostic")
        if isinstance(diagnostic, dict) and diagnostic.get("severity") == "error":
            errors.append(
                f"{diagnostic.get('summary', '')}\n{diagnostic.get('detail', '')}".strip()
            )
    return "\n".join(errors) or text


@contextmanager
def _ended_in_order(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Wait for terraform. If interrupted, ask it to stop and let it save its state."""
    try:
        yield
        process.wait()
    except BaseException:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        with _uninterrupted():
            # Keep reading, or a full pipe would block it.
            process.communicate()
        raise


@contextmanager
def _uninterrupted() -> Iterator[None]:
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which alone gets signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
