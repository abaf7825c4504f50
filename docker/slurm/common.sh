# shellcheck shell=bash disable=SC2034
# What every job of the cluster does first; read by the others with `source`.
set -euo pipefail

# Strictly offline: what is not there yet fails, and says what to fetch on the login node.
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1

# Scratch on the node's own disk, a folder for each task, gone at the end.
scratch=$(mktemp -d -p "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}")
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch MPLCONFIGDIR=$scratch/matplotlib TRITON_CACHE_DIR=$scratch/triton
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# The command, from a container where VOXELIGHT_SIF names one. An array and no function, so that signals reach it.
voxelight=(voxelight)
if [[ -n ${VOXELIGHT_SIF:-} ]]; then
  voxelight=(apptainer run --nv --bind "$scratch" ${VOXELIGHT_BIND:+--bind "$VOXELIGHT_BIND"} "$VOXELIGHT_SIF")
fi
