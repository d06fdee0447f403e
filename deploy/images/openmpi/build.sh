#!/bin/sh
# Makes the image simherd/openmpi:local; nothing to do when it is up to date.
#
#   BASE_IMAGE=debian:bookworm-slim deploy/images/openmpi/build.sh
set -eu
cd "$(dirname "$0")/../../.."
. scripts/lib.sh
image=simherd/openmpi:local
folder=deploy/images/openmpi

sources=$({ cat "$folder"/*; echo "${BASE_IMAGE:-}"; } | cksum | tr -d ' ')
label=$(docker image inspect -f '{{index .Config.Labels "simherd.sources"}}' "$image" 2>/dev/null || true)
[ "$label" = "$sources" ] && exit 0
say "building the image $image (once)"

base=${BASE_IMAGE:-simherd/debian:bookworm}
[ -n "${BASE_IMAGE:-}" ] || scripts/base-image
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# With this machine's network: it is where apt's mirror is known to be reached from.
if ! docker build --network host --build-arg BASE_IMAGE="$base" --label simherd.sources="$sources" \
  -t "$image" "$folder" >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  fail "the image $image could not be built."
fi
