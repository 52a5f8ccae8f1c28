"""A stand-in for an engine, as a program of its own: `python sandboxed_engine.py MODEL PORT`.

It reports what it sees: the model's files, and whether there is a TPM, a network, or a file of
somebody else. It imports nothing of the project.
"""

import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        seen = json.dumps(what_it_sees())
        for text, usage in ((seen, None), ("", {"prompt_tokens": 7, "completion_tokens": 3})):
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
            document = {"choices": [choice], "usage": usage}
            self.wfile.write(b"data: " + json.dumps(document).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        return


def what_it_sees() -> dict[str, object]:
    try:
        socket.create_connection(("192.0.2.1", 80), 5).close()
        network = "reached"
    except OSError as error:
        network = str(error.strerror)
    return {
        "model": sorted(os.listdir(sys.argv[1])),
        "devices": sorted(name for name in os.listdir("/dev") if name.startswith("tpm")),
        "network": network,
        "etc": os.path.exists("/etc"),
        "environment": sorted(os.environ),
    }


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
