# shellcheck shell=sh
# Sourced after lib.sh: the parts of the outside world that the tests use.
# Each need_… gets its part where it can; else it says what is missing and answers false.

engine_pid=

missing() { # WHAT COMMAND
  say "$1: the tests that need it are skipped. This helps: $(as_root "$2")"
  return 1
}

need_postgres() {
  for initdb in /usr/lib/postgresql/*/bin/initdb; do
    [ -x "$initdb" ] && return
  done
  command -v initdb >/dev/null && return
  { can_install && say "installing PostgreSQL" && apt_install postgresql; } ||
    missing "no PostgreSQL" "apt-get install postgresql"
}

need_nginx() {
  [ -x /usr/sbin/nginx ] || command -v nginx >/dev/null && return
  { can_install && say "installing nginx" && apt_install nginx-light openssl; } ||
    missing "no nginx" "apt-get install nginx-light"
}

need_ip() { # for the tests' own networks
  command -v ip >/dev/null && return
  { can_install && say "installing iproute2" && apt_install iproute2; } ||
    missing "no ip command" "apt-get install iproute2"
}

need_checkers() { # of units and of alert rules
  command -v systemd-analyze >/dev/null ||
    { can_install && say "installing systemd" && apt_install systemd; } ||
    missing "no systemd-analyze" "apt-get install systemd" || return
  command -v promtool >/dev/null && return
  { can_install && say "installing prometheus" && apt_install prometheus; } ||
    missing "no promtool" "apt-get install prometheus"
}

need_engine() { # [lasting]: it is not stopped at the end
  has_engine && return
  if ! command -v dockerd >/dev/null; then
    { can_install && say "installing Docker" && apt_install docker.io iptables; } ||
      missing "no Docker engine" "apt-get install docker.io" || return
  fi
  if ! command -v docker >/dev/null; then # its own package from Debian 13 on
    { can_install && apt_install docker-cli; } ||
      missing "no docker command" "apt-get install docker-cli" || return
  fi
  has_engine || start_engine "${1:-}"
}

start_engine() { # [lasting]
  is_root || missing "the Docker engine does not answer" "sudo systemctl start docker" || return
  if [ -n "$1" ]; then say "starting dockerd"; else say "starting dockerd; it is stopped at the end"; fi
  mkdir -p "$(cache_dir)"
  engine_log=$(cache_dir)/dockerd.log
  setsid dockerd >"$engine_log" 2>&1 </dev/null &
  engine_pid=$!
  for _ in $(seq 120); do
    has_engine && return
    kill -0 "$engine_pid" 2>/dev/null || break
    sleep 0.5
  done
  tail -n 3 "$engine_log" >&2
  stop_engine
  missing "dockerd does not start here (log: $engine_log)" "dockerd"
}

stop_engine() { # the one that start_engine started
  [ -n "$engine_pid" ] || return 0
  kill "$engine_pid" 2>/dev/null || true
  wait "$engine_pid" 2>/dev/null || true
  engine_pid=
}
