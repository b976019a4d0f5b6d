#!/bin/sh
# What is run in the guest: the end-to-end tests, then checkpoints.
export GANTRYD=/gantry/bin/gantryd GANTRY_SHIM=/gantry/bin/gantry-shim GANTRY=/gantry/bin/gantry

failed=0
for test in /gantry/tests/*; do
  # Two processors, and every test waits more than it computes.
  "$test" --test-threads 4 || failed=1
done
/gantry/checkpoint.sh || failed=1
exit $failed
