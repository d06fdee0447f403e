# shellcheck shell=sh
# Sourced after lib.sh: the fleet of deploy/docker-compose.yml.

# Where its .env is: another folder is another fleet.
fleet_dir=${FLEET_DIR:-deploy}

need_compose() {
  docker compose version >/dev/null 2>&1 && return
  command -v docker-compose >/dev/null && return
  { can_install && say "installing docker-compose" && apt_install docker-compose; } ||
    fail "there is no docker compose." "apt-get install docker-compose"
}

compose() ( # ARGUMENTS
  # What .env says holds: compose would prefer what happens to be in the environment.
  # shellcheck disable=SC2046 # names
  unset $(sed -n 's/^\([A-Z0-9_]*\)=.*/\1/p' "$fleet_dir/.env")
  set -- -f deploy/docker-compose.yml --env-file "$fleet_dir/.env" \
    -p "$(setting COMPOSE_PROJECT_NAME)" "$@"
  if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
)

setting() { # NAME: what .env says
  sed -n "s/^$1=//p" "$fleet_dir/.env"
}

secrets_dir() { # as the compose file takes it: from its own folder
  place=$(setting SECRETS_DIR)
  (cd deploy && cd "${place:-./secrets}" && pwd)
}

wait_until_well() { # NAME CONTAINER
  for _ in $(seq 180); do
    # The engine itself asks no more than every 15 seconds.
    docker exec "$2" simherd-scheduler health >/dev/null 2>&1 && return
    sleep 1
  done
  docker logs --tail 20 "$2" >&2
  fail "$1 is not well; above is what it said last."
}

wait_until_healthy() { # NAME CONTAINER
  for _ in $(seq 180); do
    [ "$(docker inspect -f '{{.State.Health.Status}}' "$2")" = healthy ] && return
    sleep 1
  done
  docker logs --tail 20 "$2" >&2
  fail "$1 is not healthy; above is what it said last."
}
