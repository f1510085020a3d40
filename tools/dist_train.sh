#!/usr/bin/env bash
# Train on several GPUs: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# On several machines, run it on each with NNODES, NODE_RANK, MASTER_ADDR (and PORT) set:
# docs/several_machines.md
exec "${PYTHON:-python}" "$(dirname "$0")/launch.py" train "$@"
