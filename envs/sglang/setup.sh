#!/bin/sh
# Makes .venv beside itself: the version of sglang in requirements.txt with what it asks for. For a machine with an
# NVIDIA GPU and its driver; some GB of download and about 12 GB of disk. Needs uv (python3 -m pip install uv), which
# also fetches Python 3.12 where that is missing. A second run finds it made and does nothing.
set -eu
cd "$(dirname "$0")"

fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

recipe=$(cat setup.sh requirements.txt | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/python3 ] && [ "$(cat .venv/recipe 2>/dev/null)" = "$recipe" ]; then
    echo "already made: $PWD/.venv"
    exit 0
fi
command -v uv >/dev/null || fail "uv is missing" "python3 -m pip install uv"

# A venv can't be moved, so it is made in its place, and counts as made only once it bears the recipe's mark.
rm -rf .venv
trap '[ -f .venv/recipe ] || rm -rf .venv' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
uv venv --python 3.12 .venv
uv pip install --python .venv/bin/python3 --requirement requirements.txt ||
    fail "uv could not install requirements.txt" "is a package registry reachable? is there disk space? what came is in uv's cache"
.venv/bin/python3 -c 'import importlib.metadata as m; print("sglang", m.version("sglang"))'
printf '%s\n' "$recipe" >.venv/recipe
echo "made: $PWD/.venv"
