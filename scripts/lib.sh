# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: Apache-2.0
# What the scripts share: where the repository is, how a failure is said, how a build folder is configured, how one of
# scripts/triphase is run. Sourced, never run. Works from any folder, through links, with spaces in paths.

root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
build=$root/build
venv_python=$build/venv/bin/python
jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc 2>/dev/null || echo 1)}
export LC_ALL=C.UTF-8 # what tools say is read here
unset PYTHONHOME PYTHONPATH # another project's modules must not leak into build/venv

say() { printf '%s\n' "$*"; }

# die CODE MESSAGE...
die() {
  local code=$1
  shift
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit "$code"
}

# configure FOLDER PRESET CMAKE_ARGUMENTS...
# A build folder that was moved, copied or made for another generator is of no use, and is begun anew.
configure() {
  local folder=$build/$1 preset=$2 cache=$build/$1/CMakeCache.txt
  shift 2
  if [ -f "$cache" ]; then
    if ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$cache" ||
      ! grep -qxF "CMAKE_GENERATOR:INTERNAL=Ninja" "$cache"; then
      set -- --fresh "$@"
    fi
  fi
  (cd "$root" && cmake --preset "$preset" -B "$folder" -G Ninja "$@")
}

# Whether the release build has the oneDNN backend.
has_onednn() { grep -q '^dnnl_DIR:.*=/' "$build/release/CMakeCache.txt"; }

# Times are those of g++. Warnings are errors only under a compiler whose warnings are known, so that a newer one
# cannot break a user's build; test and reproduce say the same here, so that neither makes the other compile anew.
configure_release() {
  local werror=OFF
  if [ "$(g++ -dumpversion | cut -d. -f1)" = 12 ]; then werror=ON; fi
  configure release release -DCMAKE_CXX_COMPILER=g++ -DTRIPHASE_WERROR="$werror"
}

# run_module NAME ARGUMENTS...
# Runs scripts/triphase/NAME.py in the build tree's Python. Installs nothing.
run_module() {
  [ -x "$venv_python" ] || die 2 "$venv_python is missing; scripts/setup makes it, and scripts/requirements.txt says how"
  PYTHONPATH=$root/scripts exec "$venv_python" -m "triphase.$1" "${@:2}"
}
