"""The reference reverse proxy, run by an nginx of this machine."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from simherd.local.stack import free_port
from tests.support.mortal import mortal
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).parents[2] / "deploy" / "images" / "proxy"
#: Debian has it where ordinary users' shells do not look.
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


class Nginx:
    """nginx with deploy/images/proxy/nginx.conf in which places alone are changed."""

    def __init__(self, folder: Path, api_port: int, **changes: str) -> None:
        """`changes`: other values of directives, for tests that cannot wait for long."""
        self.port, self.storage_port = free_port(), free_port()
        self.folder = folder
        self.url = f"https://127.0.0.1:{self.port}"
        self.certificate = folder / "proxy_certificate"
        make_certificate(self.certificate, folder / "proxy_key")
        text = (SOURCES / "nginx.conf").read_text()
        for before, after in {
            "/tmp/": f"{folder}/",
            "/dev/stderr": str(folder / "error.log"),
            "/dev/stdout": str(folder / "access.log"),
            "/run/secrets/": f"{folder}/",
            "/etc/simherd-proxy": str(SOURCES),
            "listen 8443": f"listen 127.0.0.1:{self.port}",
            "listen 8444": f"listen 127.0.0.1:{self.storage_port}",
            "http://api:8000": f"http://127.0.0.1:{api_port}",
            "http://s3:8333": f"http://127.0.0.1:{api_port}",
        }.items():
            assert before in text, before
            text = text.replace(before, after)
        for name, value in changes.items():
            text, found = re.subn(rf"\b{name} [^;]*;", f"{name} {value};", text)
            assert found, name
        self.config = folder / "nginx.conf"
        self.config.write_text(text)

    def check(self) -> str:
        """What `nginx -t` says of the configuration, which must be good."""
        done = subprocess.run(
            [str(NGINX), "-t", "-c", str(self.config)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def client(self, **headers: str) -> httpx.Client:
        """A client that trusts its certificate."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        return httpx.Client(
            base_url=self.url, verify=context, headers=headers, timeout=30, trust_env=False
        )

    @contextmanager
    def running(self) -> Iterator[Nginx]:
        """Send the response."""
        argv = [str(NGINX), "-c", str(self.config), "-g", "daemon off;"]
        process = subprocess.Popen(mortal(argv))

        def answers() -> bool:
            assert process.poll() is None, (self.folder / "error.log").read_text()
            with suppress(httpx.TransportError), self.client() as client:
                return client.get("/livez").is_success
            return False

        try:
            until(answers, what="nginx")
            yield self
        finally:
            process.terminate()
            process.wait(30)


def make_certificate(certificate: Path, key: Path) -> None:
    """A certificate for this machine, signed by itself."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=simherd", "-addext"),
            *("subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
