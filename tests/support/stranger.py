"""An ordinary user of a deployment who tries to reach what is not theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


#: Stands for the id of the group `fleet`, which an operator shares with everyone.
FLEET = "FLEET"


@dataclass(frozen=True)
class Attempt:
    """A request that must be refused with this status, and with these words as the reason."""

    method: str
    path: str
    body: dict[str, Any] | None
    status: int
    reason: str

    def made_by(self, user: httpx.Client, *, fleet: str) -> str | None:
        """Make it; what is wrong with the answer, if anything. `fleet`: the id of that group."""
        body = self.body
        if body is not None and body.get("resource_pool") == FLEET:
            body = {**body, "resource_pool": fleet}
        answer = user.request(self.method, self.path, json=body)
        if answer.status_code == self.status and self.reason in answer.text:
            return None
        return f"{self}: {answer.status_code} {answer.text[:300]}"


def _group(status: int, reason: str, **fields: Any) -> Attempt:
    return Attempt("POST", "/compute/group", {"machine_type": "local", **fields}, status, reason)


def _task(status: int, reason: str, **fields: Any) -> Attempt:
    body = {
        "simulator": "arbitrary_commands",
        "container_image": "any",
        "extra_params": {"commands": ["true"]},
        "has_input": False,
        "resource_pool": FLEET,
        **fields,
    }
    return Attempt("POST", "/tasks/submit", body, status, reason)


#: Providers that are off in the compose file, and machines without isolation.
PROVIDERS = [
    *(
        _group(422, f"provider: '{name}' is not available to you. There are: docker", provider=name)
        for name in ("local", "ec2", "external", "process", "../docker")
    ),
    _group(422, "provider_id: 'AWS' is not available", provider_id="AWS"),
    _group(422, "policy.backend: not known", policy={"backend": "process"}),
    _group(422, "policy.privileged: not known", policy={"privileged": True}),
    _group(422, "policy.mounts: not known", policy={"mounts": ["/var/run/docker.sock"]}),
    _group(403, "shared: only operators share", shared=True),
    *(
        _group(403, f"'{name}' is reserved for operators", name=name)
        for name in ("local", "default")
    ),
    Attempt("POST", "/v1/groups/fleet/invitations", None, 404, "you have no machine group 'fleet'"),
]
#: What an operator may do.
OPERATORS = [
    Attempt(method, f"/v1/admin{path}", body, 403, "Only operators may do this")
    for method, path, body in (
        ("PUT", "/users/eve/operator", {"operator": True}),
        ("PUT", "/users/eve/providers", {"providers": None}),
        ("POST", "/keys", {"username": "local", "label": "mine"}),
        ("POST", "/groups/fleet/share", {"everyone": True}),
        ("PUT", "/groups/fleet/default", {"is_default": True}),
        ("GET", "/backup", None),
        ("GET", "/groups", None),
    )
]
#: Paths that lead out of a user's storage.
PATHS = [
    *(
        _task(422, "storage_path_prefix", storage_path_prefix=path)
        for path in ("../eve", "a/../../b")
    ),
    _task(422, "input_resources", input_resources=["../../run/secrets/simherd_signing_key"]),
    _task(422, "shared_inputs", shared_inputs=["/../local/mesh.zip"]),
    *(
        Attempt("GET", f"/storage/signed-urls?operation={verb}&paths={path}", None, 422, "..")
        for verb in ("upload", "download")
        for path in ("../local/input.zip", "a/../../local/input.zip")
    ),
    Attempt("GET", "/v1/storage/files?path=../local", None, 422, ".."),
    Attempt("DELETE", "/storage/?path=../local", None, 422, ".."),
    Attempt("POST", "/storage/copy?source=../local/a&target=b", None, 422, ".."),
]
#: What tasks ask of their container.
TASKS = [
    _task(422, "backend", backend="process"),
    _task(
        422,
        "allows no network",
        extra_params={"commands": ["true"], "network": True},
    ),
]
#: Where the worker must not be sent, and why.
INSIDE = (
    *("http://redis:6379/", "http://postgres:5432/", "http://s3:8333/simherd", "http://api:8000/"),
    *("http://worker:9100/metrics", "http://127.0.0.1:9100/metrics", "http://[::1]:9100/"),
    *(
        "http://169.254.169.254/latest/meta-data/",
        "http://2130706433:9100/",
        "http://0.0.0.0:9100/",
    ),
)
#: URLs that are none for a fetch.
SCHEMES = (
    *("file:///run/secrets/simherd_signing_key", "unix:///var/run/docker.sock"),
    *("http+unix://%2Fvar%2Frun%2Fdocker.sock/containers/json", "redis://redis:6379/0"),
    "gopher://redis:6379/_FLUSHALL",
)

#: Says what of the deployment a process can see; `{folder}`: the machines' folder on the host.
LOOK = """
for file in /run/secrets/* /var/run/docker.sock /run/docker.sock /etc/simherd/* {folder}/*; do
  [ -e "$file" ] && echo "sees $file"
done
for place in redis/6379 postgres/5432 s3/8333 api/8000 169.254.169.254/80 172.17.0.1/22; do
  timeout 3 bash -c "echo > /dev/tcp/$place" 2>/dev/null && echo "reaches $place"
done
env | grep -E '^(AWS|SIMHERD_(REDIS|BROKER|DATABASE|SIGNING|SECRETS|BOOTSTRAP))' | sed 's/=.*//'
[ "$(id -u)" != 0 ] || echo "is root"
echo looked
"""
