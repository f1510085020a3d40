#!/usr/bin/env bash
# Test on several GPUs: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# Multi-node, as tools/dist_train.sh: docs/howto/several_processes.md
exec "${PYTHON:-python}" "$(dirname "$0")/launch.py" test "$@"
