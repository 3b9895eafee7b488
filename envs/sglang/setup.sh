#!/bin/sh
# Makes .venv beside itself: the version of sglang in requirements.txt with what it asks for, as requirements.lock fixes it.
# For a machine with an NVIDIA GPU and its driver; some GB of download and about 12 GB of disk. Python 3.12 and uv are
# fetched where they are missing. A second run finds it made and does nothing.
set -eu
cd "$(dirname "$0")"
package=sglang
program=python3
. ../venv.sh
