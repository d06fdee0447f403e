#!/bin/sh
# Makes the image simherd/splishsplash:local; nothing to do when it is up to date.
#
#   BASE_IMAGE=debian:bookworm-slim deploy/images/splishsplash/build.sh
set -eu
cd "$(dirname "$0")/../../.."
. scripts/lib.sh
image=simherd/splishsplash:local
folder=deploy/images/splishsplash

version=$(sed -n 's/^pysplishsplash==//Ip' constraints.txt)
sources=$({ cat "$folder"/* simherd/demo_data/splash.py; echo "$version ${BASE_IMAGE:-}"; } | cksum | tr -d ' ')
label=$(docker image inspect -f '{{index .Config.Labels "simherd.sources"}}' "$image" 2>/dev/null || true)
[ "$label" = "$sources" ] && exit 0
say "building the image $image (once)"

base=$(choose_base)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$folder/Dockerfile" "$folder/splash" simherd/demo_data/splash.py "$context"
# The Python of the image is Debian's, whatever the one here is.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt \
  --target "$context/site" --only-binary=:all: --implementation cp --python-version 3.11 \
  --platform "manylinux_2_28_$(uname -m)" --platform "manylinux_2_17_$(uname -m)" \
  "pysplishsplash==$version" >"$context/log" 2>&1 || {
  tail -n 5 "$context/log" >&2
  fail "the pysplishsplash wheel could not be downloaded." "scripts/setup all,demo"
}
rm -rf "$context"/site/bin "$context"/site/numpy/*/tests
if ! docker build --network host --build-arg BASE_IMAGE="$base" --label simherd.sources="$sources" \
  -t "$image" "$context" >"$context/log" 2>&1; then
  tail -n 20 "$context/log" >&2
  fail "the image $image could not be built."
fi
