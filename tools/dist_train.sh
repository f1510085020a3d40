#!/usr/bin/env bash
# Train on several GPUs: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Multi-node: run it on each node with NNODES, NODE_RANK, MASTER_ADDR (and PORT) set:
# docs/howto/several_processes.md
exec "${PYTHON:-python}" "$(dirname "$0")/launch.py" train "$@"
