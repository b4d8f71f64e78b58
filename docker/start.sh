#!/bin/sh
# Starts slipher in its container. The kernels that were compiled with the image are put where more may be added: a processor unlike
# the builder's compiles its own, at each start, or once for all where NUMBA_CACHE_DIR is in a volume.
set -eu
kernels=${KERNELS:-/opt/kernels}
if [ -d "$kernels/cache" ] && [ ! -e "$NUMBA_CACHE_DIR" ]; then
  cp -R "$kernels/cache" "$NUMBA_CACHE_DIR.$$"
  mv -T "$NUMBA_CACHE_DIR.$$" "$NUMBA_CACHE_DIR" 2> /dev/null || rm -rf "$NUMBA_CACHE_DIR.$$" # another worker was first
fi
if [ -s "$kernels/cpu.env" ]; then
  set -a
  # shellcheck source=/dev/null
  . "$kernels/cpu.env"
  set +a
fi
exec slipher "$@"
