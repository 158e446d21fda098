#!/usr/bin/env bash
# From a fresh clone to a working platform with one command. Needs Docker, or Python 3.11 or 3.12 and pip. Safe to run again.
set -euo pipefail

readonly UV_WANTED=0.13.9 # installed in private when no uv of 0.9 or later is on the PATH
readonly UV_LEAST=0.9
readonly COMPOSE_LEAST=2.24.4 # the first that knows `!override`
readonly LONGEST_WAIT=900     # seconds until every container is well
readonly ROOM_TO_INSTALL_MB=5000

main() {
    parse_arguments "$@"
    case "$action" in
        start)
            choose_substrate
            "start_$substrate"
            say "Done in $(elapsed). Stop: ./starter_script.sh stop    Look: ./starter_script.sh status"
            ;;
        install)
            install
            say "Installed in $(elapsed)."
            ;;
        stop | status | secrets)
            recall_substrate
            "${action}_$substrate" ${arguments[@]+"${arguments[@]}"}
            ;;
    esac
}

usage() {
    cat <<'TEXT'
Usage: ./starter_script.sh [--native | --docker] [start]    install, start, prepare, download, backtest, report, trade on paper
       ./starter_script.sh status [--json]                  each service with its version, health and address
       ./starter_script.sh secrets                          the name and file of each password and key
       ./starter_script.sh secrets show NAME                print one, such as airflow_password
       ./starter_script.sh secrets rotate NAME              give one a new value, which the next start passes on
       ./starter_script.sh stop                             stop every service; all data is kept
       ./starter_script.sh install [--dev]                  install only; --dev adds what the tests need

  --native   run the services as plain processes, even where a Docker engine is
  --docker   run them as containers; needs a Docker engine and Docker Compose 2.24.4 or later

Without either, what was chosen the last time is kept, and at first it is Docker where an engine answers.
Everything it keeps is in .mbats/ (another folder: MBATS_HOME), with Docker in volumes. .env.example says what can be set.
PYTHON=python3.12 chooses the Python; without it, 3.11 or 3.12, whichever is found first.
TEXT
}

parse_arguments() {
    action=start substrate='' dev='' arguments=()
    while (($#)); do
        case "$1" in
            start | stop | status | install) action=$1 ;;
            secrets)
                action=$1
                shift
                arguments=("$@")
                break
                ;;
            --native | --docker) substrate=${1#--} ;;
            --json) arguments=(--json) ;;
            --dev) dev=yes ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && fail "There is no '$1'." ;;
        esac
        shift
    done
}

# --- Where it runs --------------------------------------------------------------------------------------------------

choose_substrate() {
    local before
    before=$(cat "$state/substrate" 2>/dev/null || true)
    if [[ "$substrate" == docker ]]; then
        find_engine || fail "--docker: no Docker engine answers. Nothing was started. Start one, or use --native."
        find_compose || fail "--docker: no Docker Compose of $COMPOSE_LEAST or later was found. Nothing was started. Install one, or use --native."
        say "Services run as containers, as asked."
    elif [[ "$substrate" == native ]]; then
        say "Services run as plain processes, as asked."
    elif [[ -n "$before" ]]; then
        substrate=$before
        [[ "$substrate" == native ]] || { find_engine && find_compose; } ||
            fail "This platform runs as containers, and no Docker engine with Compose answers. Nothing was started. Start it, or use --native, which begins with an empty platform."
    elif find_engine && find_compose; then
        substrate=docker
        say "A Docker engine answers; services run as containers (--native: as plain processes)."
    else
        substrate=native
        say "No Docker engine with Compose answers; services run as plain processes."
    fi
    if [[ -n "$before" && "$before" != "$substrate" ]]; then
        say "It was $before the last time: the data of that one stays where it is, and is not seen here."
    fi
}

remember_substrate() {
    mkdir -p "$state"
    printf '%s\n' "$substrate" >"$state/substrate"
}

recall_substrate() {
    [[ -n "$substrate" ]] || substrate=$(cat "$state/substrate" 2>/dev/null || printf native)
    if [[ "$substrate" == docker ]]; then
        find_engine || fail "No Docker engine answers, and this platform runs as containers."
        find_compose || fail "No Docker Compose of $COMPOSE_LEAST or later was found."
    fi
}

find_engine() {
    command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1
}

find_compose() {
    local candidate version
    for candidate in "docker compose" docker-compose; do
        # shellcheck disable=SC2086 # "docker compose" is two words
        if version=$($candidate version --short 2>/dev/null) && is_at_least "$COMPOSE_LEAST" "${version#v}"; then
            compose=$candidate
            return
        fi
    done
    return 1
}

# --- As containers --------------------------------------------------------------------------------------------------

start_docker() {
    local handed_out anew=()
    require_free_ports
    remember_substrate
    build_images
    # A password that is new or was changed reaches a service when that is started anew.
    handed_out=$(compose run --rm -T secrets 2>/dev/null) || fail "Passwords could not be made. See: $compose run --rm secrets"
    say "$handed_out"
    [[ "$handed_out" != *"Handed out to"* ]] || anew=(--force-recreate)
    compose up --detach --remove-orphans ${anew[@]+"${anew[@]}"} || say_why_not
    wait_for_containers
    tools mbats first-run
    compose run --rm --no-deps -T tools tar -C /var/lib/mbats -c reports 2>/dev/null | tar -C "$state" -x
    say "Copies of the reports are in $state/reports. A password: ./starter_script.sh secrets show airflow_password"
}

# A port is looked at only when no container publishes it yet.
require_free_ports() {
    local service port
    while read -r service port; do
        [[ -z $(docker ps --filter "label=com.docker.compose.service=$service" --filter "publish=$port" --quiet) ]] || continue
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            fail "Port $port of 127.0.0.1, for $service, is taken by something else. Nothing was started." \
                "Stop what uses it, or set another one in .env: see the ports in .env.example."
        fi
    done < <(compose config | awk '/^  [a-z0-9-]+:$/ { name = $1 } /^ +published:/ { gsub(/[":]/, "", $2); sub(/:$/, "", name); print name, $2 }')
}

build_images() {
    local service
    say "Images: what has changed is built; the first time takes some minutes."
    # One after the other: they share layers, which the classic builder would make anew for each that is built meanwhile.
    for service in secrets mlflow airflow-prepare jupyter superset-prepare pgadmin-prepare; do
        compose build "$service" >"$state/build.log" 2>&1 ||
            { tail -n 30 "$state/build.log" >&2 && fail "The image of $service was not built; above is the end of $state/build.log."; }
        say "Image of ${service%-prepare}: ready after $(elapsed)."
    done
}

wait_for_containers() {
    local began=$SECONDS
    while [[ -n "$(unwell)" ]]; do
        ((SECONDS - began < LONGEST_WAIT)) || say_why_not
        sleep 2
    done
    say "Containers: all healthy after $((SECONDS - began)) s."
}

# What is not healthy, or ended with an error; the steps that are done, and a service that nobody probes, are well.
unwell() {
    compose ps --all --format '{{.Service}}|{{.Health}}|{{.State}}|{{.ExitCode}}' |
        awk -F '|' '$2 == "healthy" || ($2 == "" && ($3 == "running" || ($3 == "exited" && $4 == 0))) { next } { print $1 }'
}

say_why_not() {
    local service
    for service in $(unwell); do
        printf '\nThe end of the log of %s:\n' "$service" >&2
        compose logs --no-log-prefix --tail 20 "$service" >&2 || true
    done
    fail "The services named above are not well. The others go on."
}

status_docker() {
    tools mbats status "$@"
}

stop_docker() {
    compose --profile '*' down
    say "Stopped. All data is kept in volumes; '$compose down --volumes' deletes it, passwords included."
}

secrets_docker() {
    case "${1:-list}" in
        show) tools cat "/run/mbats/secrets/tools/mbats_${2:?which secret?}" && say ;;
        list | rotate) tools mbats secrets "${@:-list}" ;;
        *) fail "There is no 'secrets $1'; there are list, show NAME and rotate NAME." ;;
    esac
}

# A command in a container with every secret; what Compose says of making it is left out.
tools() {
    compose run --rm --no-deps -T tools "$@" 2> >(grep -v '^ *Container ' >&2)
}

compose() {
    # shellcheck disable=SC2086 # "docker compose" is two words
    $compose "$@"
}

# --- As plain processes ---------------------------------------------------------------------------------------------

start_native() {
    install
    remember_substrate
    mbats up
    mbats first-run
}

status_native() {
    require_installation
    mbats status "$@"
}

stop_native() {
    require_installation
    mbats stop
}

secrets_native() {
    require_installation
    case "${1:-list}" in
        show) cat "$state/secrets/mbats_${2:?which secret?}" && say ;;
        list | rotate) mbats secrets "${@:-list}" ;;
        *) fail "There is no 'secrets $1'; there are list, show NAME and rotate NAME." ;;
    esac
}

require_installation() {
    [[ -x "$environment/bin/mbats" ]] || fail "Not installed yet. Run ./starter_script.sh first."
}

mbats() {
    "$environment/bin/mbats" "$@"
}

# --- Install --------------------------------------------------------------------------------------------------------

install() {
    find_python
    find_uv || bootstrap_uv
    sync_packages
}

find_python() {
    local candidate tried=()
    # The Python of an installation that is there already comes first, so that it is not built anew with another one.
    for candidate in ${PYTHON:+"$PYTHON"} "$environment/bin/python" python3.11 python3.12 python3 python; do
        if python_fits "$candidate"; then
            python=$candidate
            return
        fi
        command -v "$candidate" >/dev/null && tried+=("$candidate: $("$candidate" --version 2>&1 | tail -n 1 || true)")
    done
    fail "No Python 3.11 or 3.12 was found (${tried[*]:-none at all}). Nothing was installed." \
        "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.12; or https://www.python.org/downloads)" \
        "and run this again."
}

python_fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' >/dev/null 2>&1 # Superset has no later one
}

find_uv() {
    local candidate
    for candidate in uv "$state/uv/bin/uv"; do
        if uv_is_new_enough "$candidate"; then
            uv=$candidate
            return
        fi
    done
    return 1
}

uv_is_new_enough() {
    local version
    version=$("$1" --version 2>/dev/null | cut -d ' ' -f 2) && [[ -n "$version" ]] && is_at_least "$UV_LEAST" "$version"
}

is_at_least() {
    [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]
}

bootstrap_uv() {
    say "uv: installed into $state/uv."
    rm -rf "$state/uv"
    mkdir -p "$state"
    if "$python" -m venv "$state/uv" >/dev/null 2>&1; then
        "$state/uv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_WANTED"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$state/uv"
        "$python" -m pip install --quiet --disable-pip-version-check --target "$state/uv" "uv==$UV_WANTED"
    else
        rm -rf "$state/uv"
        fail "$python has neither venv nor pip. Nothing was installed." \
            "Install them (Debian, Ubuntu: apt install python3-venv python3-pip) and run this again."
    fi
    find_uv || fail "uv was installed into $state/uv but does not run there. Remove that folder and run this again."
}

sync_packages() {
    local groups=(--no-default-groups --group trader --group simulator --group ml --group mlflow --group airflow --group jupyter)
    export UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1
    sync . "$environment" "${groups[@]}" --group native ${dev:+--group dev}
    # What these two need excludes what the others need, so each has a lock and an environment of its own.
    if has_service superset; then sync superset "$environment-superset"; fi
    if has_service pgadmin; then sync db/pgadmin "$environment-pgadmin"; fi
}

sync() {
    local project=$1 target=$2
    # Inexact, so that a start does not take away what the tests had installed.
    local sync=(env UV_PROJECT_ENVIRONMENT="$target" "$uv" sync --project "$project" --frozen --inexact --python "$python" "${@:3}")
    if "${sync[@]}" --check --quiet >/dev/null 2>&1; then
        say "Packages in $target are as the lock says, skipped."
        return
    fi
    [[ -d "$target" ]] || require_room_to_install
    "${sync[@]}"
    say "Packages: installed into $target."
}

# Whether the platform is to have this service; MBATS_SERVICES names some, and all is the default.
has_service() {
    local chosen=${MBATS_SERVICES:-$(sed -n 's/^MBATS_SERVICES=//p' .env 2>/dev/null || true)}
    [[ ",${chosen:-all}," =~ ,(all|$1), ]]
}

require_room_to_install() {
    local free
    free=$(df -Pm . | awk 'NR == 2 { print $4 }')
    ((free >= ROOM_TO_INSTALL_MB)) ||
        fail "Too little disk: $PWD has $free MB free, and installing takes $ROOM_TO_INSTALL_MB MB. Nothing was installed."
}

# --- Words ----------------------------------------------------------------------------------------------------------

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'starter_script.sh: %s\n' "$*" >&2
    exit 2
}

elapsed() {
    printf '%d min %02d s' $((SECONDS / 60)) $((SECONDS % 60))
}

# A relative MBATS_HOME is meant from where the user stands, not from the project.
[[ "${MBATS_HOME:-/}" == /* ]] || export MBATS_HOME="$PWD/$MBATS_HOME"
cd -P "$(dirname "${BASH_SOURCE[0]}")"
readonly state=${MBATS_HOME:-$PWD/.mbats} environment=${UV_PROJECT_ENVIRONMENT:-$PWD/.venv}
main "$@"
