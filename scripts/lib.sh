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

has_engine() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

cache_dir() {
  printf '%s/simherd' "${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}"
}
