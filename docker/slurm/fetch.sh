#!/bin/bash
# On the login node, which has a network: fetch and convert weights into the folder that the jobs read. Read their
# licences first and agree to them: voxelight weights show NAME, voxelight weights accept NAME
#   VOXELIGHT_HOME=/shared/voxelight docker/slurm/fetch.sh NAME...      # names: voxelight weights list
set -euo pipefail
: "${VOXELIGHT_HOME:?Set VOXELIGHT_HOME to a folder that the nodes see}"
for name in "$@"; do
  voxelight weights fetch "$name"
  voxelight weights convert "$name" --dtype bfloat16 --discard
done
voxelight weights list
