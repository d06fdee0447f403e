"""The log shim's name in release 0.1, for agents that were started by it; goes in 0.3."""

from __future__ import annotations

from executor.containers.log_shim import main

if __name__ == "__main__":
    main()
