"""Run a SPlisHSPlasH scene without a window, and say how far it is.

    splash.py [OPTIONS OF SPlisHSPlasH] SCENE.json

Three things that the simulator's own start script does not do. It resolves relative paths
against the interpreter's folder: here they are relative to where it was started. Its library
loads only after the system's libGLdispatch. And it needs tkinter, though it opens no window.

Standard library only: it also runs alone, in the image of deploy/images/splishsplash.
"""

import importlib
import os
import sys

#: Where Debian's libglvnd0 and its likes put it.
GL_DISPATCH = (
    "/lib/x86_64-linux-gnu/libGLdispatch.so.0",
    "/lib/aarch64-linux-gnu/libGLdispatch.so.0",
    "/usr/lib64/libGLdispatch.so.0",
    "/usr/lib/libGLdispatch.so.0",
)
#: Simulated seconds between two lines of progress.
PROGRESS = 0.1


def preload() -> None:
    """Start this script again with libGLdispatch loaded first, and threads that wait politely.

    By default OpenMP's threads spin while they wait: on a machine that does something else
    besides, or under a cpu limit, the simulation then takes several times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    library = next(filter(os.path.exists, GL_DISPATCH), None)
    if library and "libGLdispatch" not in os.environ.get("LD_PRELOAD", ""):
        os.environ["LD_PRELOAD"] = library
        os.execv(sys.executable, [sys.executable, *sys.argv])


def absolute(arguments: list[str]) -> list[str]:
    """The same arguments, with the scene and the output folder as absolute paths."""
    known = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_scene = argument.endswith(".json") and not argument.startswith("-")
        is_path = is_scene or before in ("--output-dir", "--state-file")
        known.append(os.path.abspath(argument) if is_path else argument)
    return known


def main() -> None:
    preload()
    splash = importlib.import_module("pysplishsplash")
    base = splash.Exec.SimulatorBase()
    base.init([sys.argv[0], "--no-gui", *absolute(sys.argv[1:])], "SPlisHSPlasH")
    said = 0.0

    def step() -> None:
        nonlocal said
        now = splash.TimeManager.getCurrent().getTime()
        if now - said >= PROGRESS:
            said = now
            print(f"simulated {now:.2f} s", flush=True)

    base.setTimeStepCB(step)
    base.run()


if __name__ == "__main__":
    main()
