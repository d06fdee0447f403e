# shellcheck shell=sh
# Sourced by the other scripts. Changes nothing by itself.

say() { printf 'simherd: %s\n' "$*" >&2; }

fail() { # SENTENCE [COMMAND]
  say "$1"
  [ $# = 1 ] || say "  this helps: $(as_root "$2")"
  exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

as_root() { # COMMAND: the words a person would type
  case $1 in
    apt-get*) is_root || printf 'sudo ' ;;
  esac
  printf '%s' "$1"
}

can_install() { is_root && command -v apt-get >/dev/null; }

# RUNLEVEL=1 keeps a package from starting its service where no systemd looks after it.
apt_quietly() {
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" \
    >/dev/null 2>&1 </dev/null
}

apt_install() { # PACKAGE...
  apt_quietly install -y --no-install-recommends "$@" && return
  apt_quietly update || true
  apt_quietly install -y --no-install-recommends "$@"
}

# SPlisHSPlasH never draws here, but its library names these and does not load without them.
simulator_libraries="libgl1 libglvnd0 libx11-6 libxext6"

need_simulator() { # from the repository's folder, after scripts/setup
  .venv/bin/python simherd/demo_data/splash.py --version >/dev/null 2>&1 && return
  # shellcheck disable=SC2086 # a list of words
  can_install && say "installing $simulator_libraries" && apt_install $simulator_libraries
}

has_engine() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# The base of images: BASE_IMAGE, or one that is here, can be pulled, or can be made: in the order of
# what it costs. From the repository's folder.
choose_base() {
  if [ -n "${BASE_IMAGE:-}" ]; then
    echo "$BASE_IMAGE"
  elif has_image simherd/debian:bookworm; then
    echo simherd/debian:bookworm
  elif has_image debian:bookworm-slim ||
    timeout 120 docker pull -q debian:bookworm-slim >/dev/null 2>&1; then
    echo debian:bookworm-slim
  else
    scripts/base-image >&2 && echo simherd/debian:bookworm
  fi
}

cache_dir() {
  printf '%s/simherd' "${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}"
}
