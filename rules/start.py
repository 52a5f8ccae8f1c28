"""Run one of our modules for `./doit`, before any other package named `rules` can be found."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
