#!/usr/bin/env bash
# All checks, on a fresh clone with nothing but Python 3.11 and pip. Arguments go to pytest: tests/run.sh tests/platform -k stop
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${UV_PROJECT_ENVIRONMENT:-.venv}/bin

main() {
    ./starter_script.sh install --dev
    install_tools
    step "shell scripts" check_shell_scripts
    step "style" "$bin/ruff" check
    step "format" "$bin/ruff" format --check
    step "types" "$bin/mypy"
    step "imports" "$bin/lint-imports"
    step "tests" run_tests "$@"
    printf '\nAll checks passed in %d min %02d s.\n' $((SECONDS / 60)) $((SECONDS % 60))
}

# A browser to look at reports, and a checker of shell scripts. Without them, those checks are left out and that is said.
install_tools() {
    local tool missing=()
    for tool in chromium shellcheck; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    ((${#missing[@]})) || return 0
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        printf '\n== %s, with apt-get\n' "${missing[*]}"
        (apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}") >/dev/null
    else
        printf '\nNot here: %s. What needs it is left out.\n' "${missing[*]}"
    fi
}

# On a busy machine a test of threads and streams may come too late. What failed is named and run once more, alone; what fails
# again is broken, and whatever passes only then should be made steady.
run_tests() {
    local code=0
    "$bin/pytest" -n 2 --dist loadfile --no-loadscope-reorder --durations 15 "$@" || code=$?
    ((code == 1)) || return "$code"
    step "what failed, once more and alone" "$bin/pytest" -v --last-failed --last-failed-no-failures none "$@"
}

check_shell_scripts() {
    command -v shellcheck >/dev/null || return 0
    shellcheck starter_script.sh tests/run.sh .ci/run tests/stack/engine/*.sh tests/stack/engine/*/*.sh
}

step() {
    printf '\n== %s\n' "$1"
    "${@:2}"
}

main "$@"
