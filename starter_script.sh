#!/usr/bin/env bash
# From a fresh clone to a working platform with one command. Needs Python 3.11 or later and pip. Safe to run again.
set -euo pipefail

readonly UV_WANTED=0.13.9 # installed in private when no uv of 0.9 or later is on the PATH
readonly UV_LEAST=0.9
readonly ROOM_TO_INSTALL_MB=2000

main() {
    parse_arguments "$@"
    case "$action" in
        start)
            choose_substrate
            install
            start_platform
            do_the_main_job
            say "Done in $(elapsed). Stop: ./starter_script.sh stop    Look: ./starter_script.sh status"
            ;;
        install)
            install
            say "Installed in $(elapsed)."
            ;;
        stop | status) run_installed "$action" ${json:+--json} ;;
    esac
}

usage() {
    cat <<'TEXT'
Usage: ./starter_script.sh [--native | --docker] [start]    install, start, prepare, download, backtest, report
       ./starter_script.sh status [--json]                  each service with its health and address
       ./starter_script.sh stop                             stop every service; all data is kept
       ./starter_script.sh install [--dev]                  install only; --dev adds what the tests need

  --native   run the services as plain processes, even where a Docker engine is
  --docker   run them as containers (comes with a later release)

Everything it keeps is in .mbats/ (another folder: MBATS_HOME). .env.example says what can be set.
PYTHON=python3.12 chooses the Python; without it, the first of 3.11 or later that is found.
TEXT
}

parse_arguments() {
    action=start substrate='' json='' dev=''
    while (($#)); do
        case "$1" in
            start | stop | status | install) action=$1 ;;
            --native | --docker) substrate=${1#--} ;;
            --json) json=yes ;;
            --dev) dev=yes ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && fail "There is no '$1'." ;;
        esac
        shift
    done
}

choose_substrate() {
    case "$substrate" in
        docker) fail "--docker: the container platform comes with a later release. Nothing was started. Use --native, or no option." ;;
        native) say "Services run as plain processes, as asked." ;;
        *)
            if docker_engine_answers; then
                say "A Docker engine answers; the container platform comes with a later release, so services run as plain processes."
            else
                say "No Docker engine answers; services run as plain processes."
            fi
            ;;
    esac
}

docker_engine_answers() {
    command -v docker >/dev/null && timeout 5 docker info >/dev/null 2>&1
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
    for candidate in ${PYTHON:+"$PYTHON"} "$environment/bin/python" python3.11 python3.12 python3.13 python3 python; do
        if python_is_new_enough "$candidate"; then
            python=$candidate
            return
        fi
        command -v "$candidate" >/dev/null && tried+=("$candidate: $("$candidate" --version 2>&1 | tail -n 1 || true)")
    done
    fail "No Python 3.11 or later was found (${tried[*]:-none at all}). Nothing was installed." \
        "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.12; or https://www.python.org/downloads)" \
        "and run this again."
}

python_is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
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
    version=$("$1" --version 2>/dev/null | cut -d ' ' -f 2) && [[ -n "$version" ]] &&
        [[ $(printf '%s\n' "$UV_LEAST" "$version" | sort -V | head -n 1) == "$UV_LEAST" ]]
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
    local groups=(--no-default-groups --group trader --group simulator --group native ${dev:+--group dev})
    # Inexact, so that a start does not take away what the tests had installed.
    local sync=("$uv" sync --frozen --inexact --python "$python" "${groups[@]}")
    export UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1
    if "${sync[@]}" --check --quiet >/dev/null 2>&1; then
        say "Packages are as uv.lock says, skipped."
        return
    fi
    [[ -d "$environment" ]] || require_room_to_install
    "${sync[@]}"
    say "Packages: installed into $environment."
}

require_room_to_install() {
    local free
    free=$(df -Pm . | awk 'NR == 2 { print $4 }')
    ((free >= ROOM_TO_INSTALL_MB)) ||
        fail "Too little disk: $PWD has $free MB free, and installing takes $ROOM_TO_INSTALL_MB MB. Nothing was installed."
}

# --- Start ----------------------------------------------------------------------------------------------------------

start_platform() {
    mbats up
}

do_the_main_job() {
    mbats first-run
}

run_installed() {
    [[ -x "$environment/bin/mbats" ]] || fail "Not installed yet. Run ./starter_script.sh first."
    mbats "$@"
}

mbats() {
    "$environment/bin/mbats" "$@"
}

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
