# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: Apache-2.0
# What setup, test and reproduce share: where the repository is, how a failure is said, how a build
# folder is configured. Sourced, never run. Works from any folder, through links, with spaces in paths.

root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
build=$root/build
venv_python=$build/venv/bin/python
jobs=$(nproc 2>/dev/null || echo 1)
unset PYTHONHOME PYTHONPATH # another project's modules must not leak into build/venv

say() { printf '%s\n' "$*"; }

# die CODE MESSAGE...
die() {
  local code=$1
  shift
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit "$code"
}

# A new folder chooses the compiler and the generator; an old one keeps what it has. Warnings are errors
# only where the compiler is one whose warnings are known, so that a newer one cannot break a user's build.
# configure NAME CMAKE_ARGUMENTS...
configure() {
  local folder=$build/$1
  shift
  if [ -f "$folder/CMakeCache.txt" ]; then
    # A build folder that was moved, copied or made for another generator is of no use.
    if ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$folder/CMakeCache.txt" ||
      ! grep -qxF "CMAKE_GENERATOR:INTERNAL=Ninja" "$folder/CMakeCache.txt"; then
      set -- --fresh "$@"
    fi
  fi
  cmake -S "$root" -B "$folder" -G Ninja "$@"
}

configure_release() {
  local compiler=${CXX:-g++} werror=OFF
  if [ "$("$compiler" -dumpversion | cut -d. -f1)" = 12 ]; then werror=ON; fi
  CXX=$compiler configure release -DCMAKE_BUILD_TYPE=Release -DTRIPHASE_WERROR=$werror
}
