#!/bin/sh
# Makes .venv beside itself: the version of vllm in requirements.txt with what it asks for, as requirements.lock fixes it.
# For a machine with an NVIDIA GPU and its driver; some GB of download and about 10 GB of disk. Python 3.12 and uv are
# fetched where they are missing. A second run finds it made and does nothing.
set -eu
cd "$(dirname "$0")"
package=vllm
program=vllm
. ../venv.sh
