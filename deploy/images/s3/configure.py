"""Writes Swift's configuration for the keys in a JSON file, in the form that SeaweedFS takes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

#: It outlives no container: the secret must not get into the data.
FOLDER = Path("/tmp/swift")

SWIFT = """[swift-hash]
swift_hash_path_prefix = {prefix}
[storage-policy:0]
name = only
default = yes
[swift-constraints]
max_file_size = 5368709122
"""

SERVER = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
devices = /data
mount_check = false
swift_dir = /opt/s3
user = swift
workers = 0
log_address = /dev/null
log_level = WARNING
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""

PROXY = """[DEFAULT]
bind_ip = 0.0.0.0
bind_port = 8333
swift_dir = /opt/s3
user = swift
workers = 1
log_address = /dev/null
log_level = WARNING
[pipeline:main]
pipeline = catch_errors healthcheck cache s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = false
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
allow_multipart_uploads = true
min_segment_size = 5242880
max_upload_part_num = 10000
max_multi_delete_objects = 1000
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
max_manifest_size = 16777216
rate_limit_after_segment = 10000
[filter:dlo]
use = egg:swift#dlo
[filter:tempauth]
use = egg:swift#tempauth
"""


def main() -> None:
    """Write every file."""
    prefix = Path("/data/hash_prefix").read_text().strip()
    write("swift.conf", SWIFT.format(prefix=prefix))
    # The ports are those in the rings, which the Dockerfile makes.
    for name, port in (("account", 6202), ("container", 6201), ("object", 6200)):
        write(f"{name}.conf", SERVER.format(name=name, port=port))
    given = json.loads(Path(sys.argv[1]).read_text())
    users = [
        "user_{}_{} = {} .admin\n".format(*key["accessKey"].split(":"), key["secretKey"])
        for identity in given["identities"]
        for key in identity["credentials"]
    ]
    write("proxy.conf", PROXY + "".join(users))


def write(name: str, text: str) -> None:
    """One file, for nobody else to read."""
    with open(os.open(FOLDER / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


main()
