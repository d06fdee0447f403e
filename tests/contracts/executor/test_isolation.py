"""Promise 4: what a container may not do, and what a machine group's policy lets it do."""

from __future__ import annotations

import resource
import subprocess
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from executor.containers.base import ImageUnavailable
from executor.containers.docker import DockerBackend, hardening
from simherd.contract.policy import Policy
from tests.contracts.executor.bench import Bench, wait_until
from tests.support.docker import docker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.docker


@pytest.fixture
def docker_bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(DockerBackend, tmp_path)
    yield bench
    bench.backend.cleanup(bench.label)
    bench.backend.close()


def test_a_missing_image_is_named(docker_bench: Bench) -> None:
    with pytest.raises(ImageUnavailable, match="simherd/no-such-image"):
        docker_bench.backend.prepare("localhost:1/simherd/no-such-image:1")
    with pytest.raises(ImageUnavailable, match="simherd/no-such-image"):
        docker_bench.run(replace(docker_bench.spec("true"), image="simherd/no-such-image:1"))


def test_the_memory_limit_is_told_apart(docker_bench: Bench) -> None:
    # It stays until the engine knows of it, which hears of ends apart from that.
    script = "x=$(tail -c 300000000 /dev/zero | tr '\\0' x); exec sleep 600"
    spec = replace(docker_bench.spec("sh", "-c", script), memory_bytes=64 * 1024**2)
    running = docker_bench.backend.start(spec)
    wait_until(
        lambda: docker("inspect", "-f", "{{.State.OOMKilled}}", spec.name) == "true",
        "the engine to hear of it",
    )
    exit_ = running.stop(0)
    running.remove()
    assert exit_.oom
    assert exit_.message


def test_the_container_is_locked_down(docker_bench: Bench) -> None:
    script = """
    touch /root-file && echo "the root can be written"
    grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status
    id -u
    ls /sys/class/net
    ls -l /var/run/docker.sock
    ulimit -c; ulimit -n
    touch /tmp/fine /workdir/fine && echo fine
    """
    docker_bench.sh(script)
    words = docker_bench.out.read_text().split()
    assert "written" not in words
    status = dict(zip(words[0:14:2], words[1:14:2], strict=True))
    assert {status[f"Cap{kind}:"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (status["NoNewPrivs:"], status["Seccomp:"]) == ("1", "2")
    assert words[14] != "0"
    files = str(min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    assert words[15:] == ["lo", "0", files, "fine"]
    assert "Read-only file system" in docker_bench.err.read_text()


def test_a_fork_bomb_stays_inside(docker_bench: Bench) -> None:
    bomb = "f() { sleep 1000 & f; }; f"
    spec = replace(docker_bench.spec("sh", "-c", bomb), policy=Policy(pids=30))
    exit_ = docker_bench.run(spec)
    assert exit_.code != 0


def test_what_the_command_writes_belongs_to_the_sandbox_user(docker_bench: Bench) -> None:
    (docker_bench.work / "input").write_text("old")
    assert docker_bench.sh("echo new > input; mkdir deep; touch deep/file").code == 0
    assert (docker_bench.work / "input").read_text() == "new\n"
    assert (docker_bench.work / "deep" / "file").stat().st_uid != 0


def _out(bench: Bench, script: str, **policy: object) -> list[str]:
    allowed = Policy.read(policy)
    spec = replace(bench.spec("sh", "-c", script), policy=allowed, network=True)
    bench.run(spec)
    return bench.out.read_text().split()


def test_a_policy_relaxes_what_it_names(docker_bench: Bench) -> None:
    script = (
        "touch /root-file && echo written; grep CapEff /proc/self/status; ulimit -n; "
        "df -k /dev/shm /tmp | awk '{print $2}'"
    )
    words = _out(
        docker_bench,
        script,
        writable_root=True,
        open_files=77,
        shm_bytes=8 * 1024**2,
        tmp_bytes=16 * 1024**2,
    )
    # The user is still not root, so the root folder is not the user's to write to.
    assert words[:3] == ["CapEff:", "0" * 16, "77"]
    assert words[-2:] == ["8192", "16384"]
    assert "Permission denied" in docker_bench.err.read_text()


def test_a_capability_is_given_by_policy_alone(docker_bench: Bench) -> None:
    words = _out(docker_bench, "grep CapBnd /proc/self/status", capabilities=["SYS_PTRACE"])
    assert words == ["CapBnd:", f"{1 << 19:016x}"]


def test_a_task_alone_gets_no_network(docker_bench: Bench) -> None:
    assert _out(docker_bench, "ls /sys/class/net") == ["lo"]
    docker_bench.out.unlink()
    assert "eth0" in _out(docker_bench, "ls /sys/class/net", network=True)


@pytest.fixture
def metadata_service() -> Iterator[int]:
    """Something that answers on the address where clouds hand out credentials."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"secret")

        def log_message(self, *_: object) -> None:
            return

    address = "169.254.169.254"
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    server = ThreadingHTTPServer((address, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()
    subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


def test_the_metadata_address_is_out_of_reach(docker_bench: Bench, metadata_service: int) -> None:
    asked = f"bash -c 'exec 3<>/dev/tcp/169.254.169.254/{metadata_service} && echo reached'"
    # From here it answers; from the bridge of the engine itself, too.
    assert subprocess.run(["sh", "-c", asked], capture_output=True, check=True).stdout
    plain = ["docker", "run", "--rm", "simherd/debian:bookworm", "sh", "-c", asked]
    assert b"reached" in subprocess.run(plain, capture_output=True, check=True).stdout
    assert _out(docker_bench, f"timeout 2 {asked}; echo over", network=True) == ["over"]


def test_gpus_are_asked_for_where_the_machine_has_some(docker_bench: Bench) -> None:
    spec = docker_bench.spec("true")
    (request,) = hardening(spec, 1, "none", gpus=2)["device_requests"]
    assert (request["Count"], request["Capabilities"]) == (-1, [["gpu"]])
    assert "device_requests" not in hardening(spec, 1, "none", gpus=0)
    without = replace(spec, policy=Policy(gpus=False))
    assert "device_requests" not in hardening(without, 1, "none", gpus=2)
