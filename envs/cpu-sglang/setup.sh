#!/bin/sh
# Makes .venv beside itself: SGLang 0.5.23 as plans/cpu.yaml runs it on a machine without a GPU. Its kernel package is
# for GPUs only; an empty one stands in its place, and SGLang then takes its code in plain torch (see README.md).
#
# Needs: x86-64 Linux, python3 with pip, about 3 GB of download and 7 GB of disk. uv is fetched where it is missing.
# A second run finds it made and does nothing.
set -eu

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

cd "$(dirname "$0")"
[ "$(uname -sm)" = "Linux x86_64" ] || fail "this is $(uname -sm); the packages are for Linux on x86-64"
recipe=$(cat setup.sh requirements.txt | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/python3 ] && [ "$(cat .venv/recipe 2>/dev/null)" = "$recipe" ]; then
    say "already made: $PWD/.venv"
    exit 0
fi

uv=uv
if ! command -v uv >/dev/null; then
    uv=$PWD/cache/uv/bin/uv
    if ! [ -x "$uv" ]; then
        say "fetching uv"
        mkdir -p cache
        rm -rf cache/uv
        python3 -m pip install --disable-pip-version-check --quiet --only-binary=:all: --target cache/uv uv==0.13.9 ||
            fail "pip could not fetch uv" "python3 -m pip install uv; is a package registry reachable?"
    fi
fi

# A venv can't be moved, so it is made in its place, and counts as made only once it bears the recipe's mark.
trap '[ -f .venv/recipe ] || rm -rf .venv' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
say "installing SGLang: 3 GB of packages, those in uv's cache are not fetched again"
rm -rf .venv
"$uv" venv --quiet --python 3.11 .venv ||
    fail "uv could not make a venv of Python 3.11" "apt-get install python3.11 python3.11-venv, or let uv fetch it (uv python install 3.11)"
"$uv" pip install --python .venv/bin/python3 --no-deps --requirement requirements.txt ||
    fail "uv could not install requirements.txt" \
        "is a package registry reachable? are there 7 GB of disk space? run it again: what came is in uv's cache"
site=$(.venv/bin/python3 -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir -p "$site/sgl_kernel"
cat >"$site/sgl_kernel/__init__.py" <<'PY'
"""An empty stand-in for SGLang's kernels, which are for GPUs. Each name is there, and fails when it is called; on the
CPU SGLang then takes its own code in plain torch."""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*args, **kwargs):
        raise NotImplementedError(f"sgl_kernel.{name}: kernels for GPUs are not installed")

    return missing
PY
SGLANG_USE_CPU_ENGINE=1 .venv/bin/python3 -c 'import torch, importlib.metadata as m; print("sglang", m.version("sglang"), "torch", torch.__version__)' ||
    fail "the venv does not work: torch can't be imported"
printf '%s\n' "$recipe" >.venv/recipe
say "made: $PWD/.venv"
