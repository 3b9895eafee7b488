#!/bin/sh
# Makes, beside itself, a llama.cpp server for the CPU; ./llama-server starts it.
#
# Out of a Python package that holds the server ready-made (xllamacpp): nothing is compiled. See README.md for what it
# has in common with llama.cpp's own llama-server.
#
# Needs: x86-64 Linux with AVX2, python3 (3.10 or newer) with pip, 34 MB of download once, 140 MB of disk.
# A second run finds everything made and does nothing; the download stays in cache/ (which may be deleted).
set -eu

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

cd "$(dirname "$0")"
[ "$(uname -sm)" = "Linux x86_64" ] || fail "this is $(uname -sm); the package is for Linux on x86-64"
grep -qw avx2 /proc/cpuinfo || fail "this processor has no AVX2, which the build needs"
recipe=$(cat setup.sh requirements.txt | sha256sum | cut -d' ' -f1)
if [ -x llama-server ] && [ "$(cat server/recipe 2>/dev/null)" = "$recipe" ]; then
    say "already made: $PWD/llama-server"
    exit 0
fi

command -v python3 >/dev/null || fail "python3 is missing" "apt-get install python3 python3-pip"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$(python3 --version) is too old: the package is for 3.10 and newer"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip" "apt-get install python3-pip"

# Everything is made in here and moved out whole, so that nothing half-made is left.
find . -maxdepth 1 -name '.making.*' -mmin +60 -exec rm -rf {} +   # of a run that was killed
work=$(mktemp -d "$PWD/.making.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir -p cache
get() {
    python3 -m pip download --disable-pip-version-check --quiet --no-deps --only-binary=:all: --require-hashes \
        --requirement requirements.txt --dest cache "$@"
}
if ! get --no-index --find-links cache >/dev/null 2>&1; then
    say "downloading 34 MB of packages"
    get || fail "pip could not download the package" \
        "is a package registry reachable (pip config list)? is there disk space? run it again: what came is kept"
fi

say "taking the package apart"
python3 -m zipfile -e cache/xllamacpp-2026.10.11549-*.whl "$work/server"

cat >"$work/llama-server" <<'PY'
#!/usr/bin/env python3
"""llama.cpp's server, out of the package xllamacpp, by llama-server's own arguments (those that are listed here).

One process, which logs to stderr. TERM and INT end it at once: what runs is given up, exit code 0.
"""
import argparse
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "server"))
sys.dont_write_bytecode = True
import xllamacpp

known = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
known.add_argument("--version", action="version", version=f"version: b11549 (xllamacpp {xllamacpp.__version__})")
known.add_argument("-m", "--model", required=True)
known.add_argument("-a", "--alias")
known.add_argument("--host", default="127.0.0.1")
known.add_argument("--port", type=int, default=8080)
known.add_argument("-c", "--ctx-size", type=int)
known.add_argument("-np", "--parallel", type=int)
known.add_argument("-t", "--threads", type=int)
known.add_argument("-tb", "--threads-batch", type=int)
known.add_argument("-b", "--batch-size", type=int)
known.add_argument("-ub", "--ubatch-size", type=int)
known.add_argument("-cram", "--cache-ram", type=int)
known.add_argument("-lv", "--verbosity", type=int)
known.add_argument("--slot-save-path")
known.add_argument("--metrics", action="store_true")
given = known.parse_args()

params = xllamacpp.CommonParams()
params.model.path = given.model
params.hostnames = [given.host]
params.port = given.port
params.endpoint_metrics = given.metrics
if given.alias is not None:
    params.model_alias = {given.alias}
if given.slot_save_path is not None:
    # As llama-server's own parser has it: a folder, with a slash at its end.
    if not os.path.isdir(given.slot_save_path):
        known.error(f"not a directory: {given.slot_save_path}")
    params.slot_save_path = os.path.join(given.slot_save_path, "")
if given.threads is not None:
    params.cpuparams.n_threads = given.threads
# Without one of its own, a batch takes as many threads as an answer, as in llama-server.
if (batch := given.threads_batch if given.threads_batch is not None else given.threads) is not None:
    params.cpuparams_batch.n_threads = batch
for name, value in {
    "n_ctx": given.ctx_size,
    "n_parallel": given.parallel if given.parallel is not None else -1,
    "n_batch": given.batch_size,
    "n_ubatch": given.ubatch_size,
    "cache_ram_mib": given.cache_ram,
    "verbosity": given.verbosity,
}.items():
    if value is not None:
        setattr(params, name, value)

# While it loads, a signal ends it at once: nothing is there yet that would need an end in order.
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_DFL)
try:
    server = xllamacpp.Server(params)
except (RuntimeError, ValueError) as error:
    sys.exit(f"llama-server: {error}")

# Whichever thread a signal meets, a byte comes out of this pipe. Then the process ends without the server's own end in
# order, which waits for running answers (up to 30 s): there is nothing that the kernel does not clear away.
awaited, said = os.pipe()
os.set_blocking(said, False)
signal.set_wakeup_fd(said, warn_on_full_buffer=False)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: None)
os.read(awaited, 1)
print("llama-server: ended by a signal", file=sys.stderr, flush=True)
os._exit(0)
PY
chmod 755 "$work/llama-server"
version=$("$work/llama-server" --version 2>&1) || fail "the server does not start: $version" "apt-get install libgomp1 libstdc++6"
printf '%s\n' "$recipe" >"$work/server/recipe"

rm -rf server
mv "$work/llama-server" llama-server
mv "$work/server" server
say "made: $PWD/llama-server ($version)"
