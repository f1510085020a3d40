#!/usr/bin/env bash
# Train by Slurm: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
#
# From the environment, with what holds otherwise:
#   GPUS=8           processes in all, each with a GPU
#   GPUS_PER_NODE    of them on a node: 8, or GPUS where that is less
#   CPUS_PER_TASK=5  for each process and its data-loader workers
#   GRES             what is asked for on each node: gpu:$GPUS_PER_NODE; empty for CPU processes
#   SRUN_ARGS        further options of srun, such as --time=24:00:00
#   PORT             where the processes meet; otherwise it follows from the job's number
set -eu
if [ $# -lt 3 ]; then
    echo 'usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]' >&2
    exit 2
fi
partition=$1 job=$2
shift 2
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
gres=${GRES-gpu:$per_node}
if [ -n "${PORT:-}" ]; then
    export MASTER_PORT=$PORT
fi
# --kill-on-bad-exit: when a process fails, the others end at once. SRUN_ARGS is several words.
exec srun --partition="$partition" --job-name="$job" ${gres:+--gres="$gres"} \
    --ntasks="$gpus" --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$@" --launcher slurm
