"""A headless Firefox, controlled with Marionette, its own protocol for tests: no driver, no
network.

The socket is only reachable from this computer, and Firefox is set to work offline. Values in the
page are read with Firefox's debugger, which the page's policy does not bind.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from aicert.errors import ToolError
from tests.e2e.page.browser import END_S, LIMIT_S

PROGRAM, PACKAGE = "firefox-esr", "firefox-esr"
PREFERENCES = {
    # 0 means any free port.
    "marionette.port": 0,
    # Firefox asks whether a folder is meant. It ignores answers for a second, and without focus.
    "security.dialog_enable_delay": 0,
}
# How often to check for what a test waits for.
STEP_S = 0.05
# Replaces the window in which a person picks files, which a headless browser does not have.
PICKER = """
const paths = arguments[0];
const fileOf = (path) => {
  const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
  file.initWithPath(path);
  return file;
};
class Picker {
  QueryInterface = ChromeUtils.generateQI(["nsIFilePicker"]);
  init() {}
  appendFilters() {}
  appendFilter() {}
  appendRawFilter() {}
  get file() { return fileOf(paths[0]); }
  get files() {
    const left = paths.map(fileOf);
    return {
      QueryInterface: ChromeUtils.generateQI(["nsISimpleEnumerator"]),
      hasMoreElements: () => left.length > 0,
      getNext: () => left.shift(),
    };
  }
  open(callback) {
    Services.tm.dispatchToMainThread(() => callback.done(Ci.nsIFilePicker.returnOK));
  }
}
const factory = {
  QueryInterface: ChromeUtils.generateQI(["nsIFactory"]),
  createInstance: (id) => new Picker().QueryInterface(id),
};
Components.manager.QueryInterface(Ci.nsIComponentRegistrar).registerFactory(
  Services.uuid.generateUUID(), "", "@mozilla.org/filepicker;1", factory);
"""
EVALUATE = """
const { addDebuggerToGlobal } = ChromeUtils.importESModule(
  "resource://gre/modules/jsdebugger.sys.mjs", { global: "shared" });
addDebuggerToGlobal(globalThis);
const page = new Debugger().addDebuggee(window.wrappedJSObject ?? window);
const got = page.executeInGlobal(arguments[0]);
const plain = (value) =>
  value !== null && typeof value === "object" ? value.unsafeDereference() : value;
if (!got || "throw" in got) throw new Error(String(plain(got?.throw)));
return plain(got.return);
"""
# Messages about pages, out of those of the whole browser, which has other business too.
COMPLAINTS = """
const ofPages = (text) => /"(file|blob|moz-nullprincipal):/.test(text);
return Services.console.getMessageArray().map(String).filter(ofPages);
"""


class Marionette:
    """The protocol's commands and answers: a length in decimal digits, a colon, JSON."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), LIMIT_S)
        self._answers = self._socket.makefile("rb")
        self._count = 0
        # The browser introduces itself first.
        self._next()

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def ask(self, command: str, **parameters: object) -> Any:
        """Return a command's result. Raises ToolError with the name of what went wrong."""
        self._count += 1
        text = json.dumps([0, self._count, command, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(text), text))
        _, number, error, result = self._next()
        assert number == self._count
        if error is not None:
            raise ToolError(error["error"], hint=error["message"])
        return result

    def _next(self) -> Any:
        digits = b""
        while (octet := self._answers.read(1)) != b":":
            assert octet.isdigit(), "the browser ended"
            digits += octet
        return json.loads(self._answers.read(int(digits)))


class Firefox:
    """One page in Firefox."""

    def __init__(self, folder: Path, limit_s: int = LIMIT_S) -> None:
        if shutil.which(PROGRAM) is None:
            raise ToolError(f"{PROGRAM} is not installed", hint=f"sudo apt-get install {PACKAGE}")
        self._end = time.monotonic() + limit_s
        self._profile = folder / "firefox"
        self._profile.mkdir()
        lines = [f'user_pref("{name}", {value});\n' for name, value in PREFERENCES.items()]
        (self._profile / "user.js").write_text("".join(lines))
        options = ("--headless", "--marionette", "--remote-allow-system-access", "--no-remote",
                   "--profile", str(self._profile))  # fmt: skip
        self._process = subprocess.Popen(
            ["timeout", f"--kill-after={END_S}", str(limit_s), PROGRAM, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(folder), "MOZ_CRASHREPORTER_DISABLE": "1"},
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        try:
            self._connection = Marionette(self._port())
            self.ask("WebDriver:NewSession", unhandledPromptBehavior="ignore")
            limit = LIMIT_S * 1000
            self.ask("WebDriver:SetTimeouts", script=limit, pageLoad=limit)
            self._of_browser("Services.io.offline = true")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._stop()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _port(self) -> int:
        """Return the port that Firefox listens on, once it does."""
        place = self._profile / "MarionetteActivePort"
        while not (place.is_file() and (text := place.read_text().strip())):
            assert self._process.poll() is None, "firefox ended, or did not start in its time"
            time.sleep(STEP_S)
        return int(text)

    def ask(self, command: str, **parameters: object) -> Any:
        return self._connection.ask(command, **parameters)

    def _of_browser(self, script: str, *arguments: object) -> Any:
        """Run a script with the browser's own privileges, outside any page."""
        self.ask("Marionette:SetContext", value="chrome")
        try:
            return self.ask("WebDriver:ExecuteScript", script=script, args=arguments)["value"]
        finally:
            self.ask("Marionette:SetContext", value="content")

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the page; of a promise, once it is fulfilled."""
        words = {"script": EVALUATE, "args": [expression], "sandbox": "system"}
        return self.ask("WebDriver:ExecuteScript", **words)["value"]

    promised = value

    def open(self, page: Path) -> None:
        """Load the page to its end."""
        self.ask("WebDriver:Navigate", url=page.as_uri())

    def complaints(self) -> list[str]:
        """Return the messages about pages."""
        messages: list[str] = self._of_browser(COMPLAINTS)
        return messages

    def console(self) -> str:
        """Return the same messages as one text, for people."""
        return "\n".join(("console of the browser:", *self.complaints()))

    def picture(self, out: Path) -> bytes:
        """Return the whole page as PNG."""
        shot = self.ask("WebDriver:TakeScreenshot", full=True, hash=False)["value"]
        out.write_bytes(base64.b64decode(shot))
        return out.read_bytes()

    def pick(self, control: str, *paths: Path) -> None:
        """Choose files in a control of the page by its label, as a person does."""
        self._choose(control, *paths)
        self._wait(f"document.getElementById('{control}').files.length === {len(paths)}")

    def pick_folder(self, control: str, path: Path) -> str:
        """Choose a folder, and agree to what Firefox asks before it passes the folder to the page.
        Returns that question.
        """
        self._choose(control, path)
        while (text := self._alert()) is None:
            assert time.monotonic() < self._end, "firefox asked nothing"
            time.sleep(STEP_S)
        self.ask("WebDriver:AcceptAlert")
        self._wait(f"document.getElementById('{control}').files.length > 0")
        return text

    def _choose(self, control: str, *paths: Path) -> None:
        self._of_browser(PICKER, [str(path) for path in paths])
        self.value(f"document.getElementById('{control}').value = ''")
        (label,) = self.ask(
            "WebDriver:FindElement", using="css selector", value=f"label[for={control}]"
        )["value"].values()
        self.ask("WebDriver:ElementClick", id=label)

    def _alert(self) -> str | None:
        try:
            return str(self.ask("WebDriver:GetAlertText")["value"])
        except ToolError as error:
            if error.message != "no such alert":
                raise
            return None

    def _wait(self, condition: str) -> None:
        while not self.value(condition):
            assert time.monotonic() < self._end, condition
            time.sleep(STEP_S)
