#!/usr/bin/env bash
# Test on several GPUs: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# On several machines, as tools/dist_train.sh: docs/several_machines.md
exec "${PYTHON:-python}" "$(dirname "$0")/launch.py" test "$@"
