# Makes .venv in the working directory out of requirements.lock, whose hashes fix every package. Read by the setup.sh of
# each environment, which sets `package` (the framework's package) and `program` (its program in .venv/bin).
#
# uv is taken from the path, or fetched by pip into a folder of benchd's own; nothing is installed into the system.
# A second run finds everything made and does nothing; a changed lock makes it anew. A run that is ended on the way
# leaves no venv, or, where it was killed, one that is marked as half-made.

python=3.12
uv_version=0.13.9
tools=${BENCHD_TOOLS:-$PWD/../.tools}

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

is_of_this_python() {
    grep -Eq "^version(_info)? *= *$python\." .venv/pyvenv.cfg 2>/dev/null
}

has_package() {
    for info in .venv/lib/python*/site-packages/"$package"-[0-9]*.dist-info; do
        [ ! -d "$info" ] || return 0
    done
    return 1
}

recipe=$(cat setup.sh requirements.lock ../venv.sh | sha256sum | cut -d' ' -f1)
if [ ! -e .venv/half-made ] && [ "$(cat .venv/recipe 2>/dev/null)" = "$recipe" ] && [ -x ".venv/bin/$program" ] &&
    [ -x .venv/bin/python3 ] && is_of_this_python && has_package; then
    say "already made: $PWD/.venv"
    exit 0
fi

if [ -e .venv/half-made ]; then
    say "a half-made venv is there: making it anew"
elif [ -e .venv/pyvenv.cfg ] && ! is_of_this_python; then
    say "a venv of another Python is there ($(grep -E '^version' .venv/pyvenv.cfg | head -n 1)): making it anew with $python"
elif [ -d .venv ] && [ ! -e .venv/pyvenv.cfg ]; then
    say "the folder .venv is no venv: making it anew"
elif [ -d .venv ]; then
    say "the venv is not what the recipe makes now: making it anew"
fi

if command -v uv >/dev/null; then
    uv=uv
else
    uv=$tools/uv/bin/uv
    if [ ! -x "$uv" ]; then
        say "fetching uv $uv_version"
        command -v python3 >/dev/null || fail "uv is missing, and python3, by which it is fetched" "apt-get install python3 python3-pip"
        python3 -m pip --version >/dev/null 2>&1 ||
            fail "uv is missing, and python3 has no pip to fetch it" "apt-get install python3-pip"
        mkdir -p "$tools"
        new=$(mktemp -d "$tools/.uv.XXXXXX")
        python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --root-user-action=ignore \
            --target "$new" "uv==$uv_version" || {
            rm -rf "$new"
            fail "pip could not fetch uv"
        }
        rm -rf "$tools/uv"
        mv "$new" "$tools/uv"
    fi
fi

# A Python that is not on the machine is fetched by uv, and kept here.
export UV_PYTHON_INSTALL_DIR="${UV_PYTHON_INSTALL_DIR:-$tools/python}"
export UV_NO_PROGRESS=1

# A venv can't be moved, so it is made in its place, marked as half-made until the end.
rm -rf .venv
trap '[ ! -e .venv/half-made ] || rm -rf .venv' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir .venv
: >.venv/half-made
"$uv" venv --quiet --allow-existing --python "$python" .venv ||
    fail "uv could not make a venv of Python $python" "apt-get install python$python python$python-venv, or let uv fetch it (it needs a network)"
say "installing $(grep -c '==' requirements.lock) packages"
"$uv" pip sync --require-hashes --python .venv/bin/python3 requirements.lock ||
    fail "uv could not install requirements.lock"
version=$(.venv/bin/python3 -c 'import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))' "$package") ||
    fail "$package is not in the venv" "does requirements.lock name it?"
[ -x ".venv/bin/$program" ] || fail "the venv has no program $program"
printf '%s\n' "$recipe" >.venv/recipe
rm .venv/half-made
say "made: $PWD/.venv ($package $version)"
