#!/bin/bash
# Starts Swift with its S3 front on port 8333, for the keys in the file that -s3.config=FILE names.
# It stands in for another server: what else is said on the command line changes nothing.
set -eu
for word in "$@"; do
  case $word in -s3.config=*) keys=${word#*=} ;; esac
done
mkdir -p /data/node /tmp/swift
cd /tmp/swift

# What begins the hashes of all names: it must not change while there is data.
[ -s /data/hash_prefix ] || python3 -c 'import secrets; print(secrets.token_hex(16))' >/data/hash_prefix

python3 /opt/s3/configure.py "${keys:?-s3.config=FILE is missing}"

pids=
stop() {
  # shellcheck disable=SC2086 # a list of numbers
  kill $pids 2>/dev/null || true
}
stopped=
trap 'stopped=1; stop' TERM INT
for server in account container object proxy; do
  "swift-$server-server" "/tmp/swift/$server.conf" &
  pids="$pids $!"
done
# One that ends takes the others with it: what is half there helps nobody.
status=0
wait -n || status=$?
stop
wait || true
[ -z "$stopped" ] || status=0
exit "$status"
