"""EC2 for the tests: moto's server, behind one that notes what is asked and can answer errors."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import boto3
import httpx
from moto.server import ThreadedMotoServer

from scheduler.config import Ec2Settings
from scheduler.providers.base import LaunchTicket, MachinePlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.providers.ec2 import Ec2Provider

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def error_answer(status: int, code: str, message: str) -> tuple[int, str]:
    """An error as EC2 says it."""
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return status, f"<Response><Errors>{error}</Errors><RequestID>req-1</RequestID></Response>"


@dataclass
class Cloud:
    """An account with what machines need."""

    #: The URL that the provider is given.
    url: str
    #: Past the notes and errors, for setting up and looking.
    client: Any
    image_id: str
    subnet_id: str
    group_ids: list[str]
    profile: str
    #: The parameters of every request, in order.
    asked: list[dict[str, str]] = field(default_factory=list)
    #: Action → status and body that it is answered instead of by EC2.
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    #: The most that a page holds, whatever is asked for: EC2 may always send fewer.
    page_size: int | None = None

    def forget(self) -> None:
        """Be as at first for the next test, but for the instances."""
        self.asked.clear()
        self.answers.clear()
        self.page_size = None

    def actions(self) -> list[str]:
        """What was asked, in order."""
        return [request["Action"] for request in self.asked]

    def instance(self, instance_id: str) -> dict[str, Any]:
        """An instance as EC2 describes it."""
        found = self.client.describe_instances(InstanceIds=[instance_id])
        instance: dict[str, Any] = found["Reservations"][0]["Instances"][0]
        return instance

    def tagged(self, key: str, value: str) -> dict[str, str]:
        """Instance id → state of every instance with that tag."""
        found = self.client.describe_instances(Filters=[{"Name": f"tag:{key}", "Values": [value]}])
        return {
            instance["InstanceId"]: instance["State"]["Name"]
            for reservation in found["Reservations"]
            for instance in reservation["Instances"]
        }


def settings_for(cloud: Cloud) -> Ec2Settings:
    """Of a separate deployment."""
    return Ec2Settings(
        region=REGION,
        endpoint_url=cloud.url,
        image_id=cloud.image_id,
        subnet_id=cloud.subnet_id,
        security_group_ids=", ".join(cloud.group_ids),
        instance_profile=cloud.profile,
        deployment=f"deployment-{uuid.uuid4()}",
        machine_types={"c2-standard-4": "c5.xlarge"},
    )


def plan_for(machine_id: str = "", **changes: Any) -> MachinePlan:
    plan = MachinePlan(
        machine_id or str(uuid.uuid4()),
        "group-1",
        "crowd-1",
        "c2-standard-4",
        "us-east-1a",
        spot=False,
        vcpus=4,
        memory_bytes=16 << 30,
        disk_size_gb=77,
        ticket=LaunchTicket("https://api.example.org", f"ticket-{uuid.uuid4()}"),
    )
    return replace(plan, **changes)


def end(provider: Ec2Provider, machine_id: str, handle: dict[str, Any]) -> None:
    """Terminate as the scheduler does: until it is gone."""
    assert any(provider.terminate(machine_id, handle, force=False) for _ in range(3))


@contextmanager
def ec2_server() -> Iterator[Cloud]:
    """A separate EC2, with an image, a subnet, a security group and an instance profile."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    front = ThreadingHTTPServer(("127.0.0.1", 0), _Front)
    front.daemon_threads = True
    thread = threading.Thread(target=front.serve_forever)
    thread.start()
    try:
        cloud = _set_up(f"http://{host}:{port}", f"http://127.0.0.1:{front.server_port}")
        _Front.cloud, _Front.upstream = cloud, f"http://{host}:{port}"
        yield cloud
    finally:
        front.shutdown()
        thread.join()
        front.server_close()
        moto.stop()


def _set_up(moto: str, url: str) -> Cloud:
    def client(service: str) -> Any:
        # Any: each service has its own type, and only some have stubs.
        make: Any = boto3.client
        return make(
            service,
            endpoint_url=moto,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    ec2, iam = client("ec2"), client("iam")
    # Not the root device that most images have: a provider that guesses is found out.
    images = ec2.describe_images(Owners=["amazon"])["Images"]
    image = next(i for i in images if i["RootDeviceName"] == "/dev/xvda")
    subnet = ec2.describe_subnets()["Subnets"][0]
    groups = [
        ec2.create_security_group(GroupName=n, Description=n, VpcId=subnet["VpcId"])["GroupId"]
        for n in ("machines", "more")
    ]
    iam.create_instance_profile(InstanceProfileName="machine")
    return Cloud(url, ec2, image["ImageId"], subnet["SubnetId"], groups, "machine")


class _Front(BaseHTTPRequestHandler):
    """Hands requests on to moto, but for those that have an answer."""

    protocol_version = "HTTP/1.1"
    cloud: Cloud
    upstream: str

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = dict(parse_qsl(body.decode()))
        self.cloud.asked.append(request)
        answer = self.cloud.answers.get(request["Action"])
        if answer is not None:
            self._answer(answer[0], answer[1].encode())
            return
        if "MaxResults" in request and self.cloud.page_size:
            body = urlencode({**request, "MaxResults": self.cloud.page_size}).encode()
        kept = ("authorization", "content-type", "x-amz-date")
        headers = {k: v for k, v in self.headers.items() if k.lower() in kept}
        got = httpx.post(self.upstream, content=body, headers=headers, timeout=60)
        self._answer(got.status_code, got.content)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the tests look at `asked`."""
