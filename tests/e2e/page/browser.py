"""A headless Chromium, controlled through its debugging pipe: no driver, no port, no network."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

from aicert.errors import ToolError

PROGRAM = "chromium"
# This only bounds something that hangs.
LIMIT_S = 600
# How long the browser may take to end by itself.
END_S = 60


class Browser:
    """One page, and what it has requested and reported since it was opened."""

    def __init__(self, folder: Path, limit_s: int = LIMIT_S) -> None:
        if shutil.which(PROGRAM) is None:
            raise ToolError(f"{PROGRAM} is not installed", hint=f"sudo apt-get install {PROGRAM}")
        command_read, self._write = os.pipe()
        self._read, answer_write = os.pipe()
        # The protocol expects commands on descriptor 3 and answers on 4, each followed by NUL.
        wrapper = f'exec 3<&{command_read} 4>&{answer_write}; exec "$@"'
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--no-first-run", "--disable-background-networking", "--hide-scrollbars",
                   "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}")  # fmt: skip
        bounded = ["timeout", f"--kill-after={END_S}", str(limit_s)]
        self._process = subprocess.Popen(
            [*bounded, "bash", "-c", wrapper, "bash", PROGRAM, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(command_read, answer_write),
            start_new_session=True,
        )
        # The group contains all of the browser's processes.
        self.group = self._process.pid
        os.close(command_read)
        os.close(answer_write)
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        try:
            target = self.ask("Target.createTarget", url="about:blank")["targetId"]
            attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Network", "Log", "Runtime", "Inspector"):
                self.ask(f"{domain}.enable")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser. On a busy computer, its own crash handler once stopped a browser that
        was about to end, and it would have stayed so for ever.
        """
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command and return its result; record the events that arrive in between."""
        self._count += 1
        message: dict[str, object] = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            block = os.read(self._read, 1 << 16)
            assert block, f"the browser ended, or ran longer than its time\n{self.console()}"
            self._buffer += block
        text, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(text)
        # After a crash, answers would never come.
        assert answer.get("method") != "Inspector.targetCrashed", f"crashed\n{self.console()}"
        method, parameters = answer.get("method"), answer.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(parameters))
        return answer

    def console(self) -> str:
        """Return the content of the page's console, for people."""
        return "\n".join(("console of the page:", *self.complaints))

    def open(self, page: Path) -> None:
        """Load the page to its end."""
        self.ask("Page.navigate", url=page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            continue

    def look(self, width: int, height: int, **media: str) -> None:
        """Show the page as on a screen of that size; `media` may select paper or a dark scheme."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": media.get("scheme", "light")}]
        self.ask("Emulation.setEmulatedMedia", media=media.get("kind", "screen"), features=features)

    def looks(self, folder: Path, name: str) -> None:
        """Check that the page fits a screen and a phone, in light and in dark, and draw it each
        time in the folder that AICERT_SCREENSHOTS names, otherwise in `folder`.
        """
        pictures = Path(os.environ.get("AICERT_SCREENSHOTS") or folder)
        for width, height in ((1280, 900), (360, 740)):
            for scheme in ("light", "dark"):
                self.look(width, height, scheme=scheme)
                picture = self.picture(pictures / f"{name}-{width}-{scheme}.png")
                assert picture.startswith(b"\x89PNG")
                assert self.value("document.documentElement.scrollWidth") == width

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def promised(self, expression: str) -> Any:
        """Return the value of a promise in the page, once it is fulfilled."""
        answer = self.ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def most_memory(self) -> int:
        """Return the most memory that one of the page's own processes has used so far, in bytes."""
        peaks = [0]
        for status in Path("/proc").glob("[0-9]*/status"):
            # Processes of other programs may end while this looks at them.
            with contextlib.suppress(OSError):
                words = status.with_name("cmdline").read_bytes()
                if b"--type=renderer" in words and os.getsid(int(status.parent.name)) == self.group:
                    peaks += [
                        int(size) for size in re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
                    ]
        return max(peaks) * 1024

    def picture(self, out: Path) -> bytes:
        """Return the whole page as PNG."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        out.write_bytes(base64.b64decode(shot["data"]))
        return out.read_bytes()
