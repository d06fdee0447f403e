"""The regex worker's name in release 0.1, for agents that were started by it; goes in 0.3."""

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(
        str(Path(__file__).with_name("attempt") / "regex_worker.py"), run_name="__main__"
    )
