#!/bin/sh
# What is run in the guest: the end-to-end tests, then checkpoints.
export GANTRYD=/gantry/bin/gantryd GANTRY_SHIM=/gantry/bin/gantry-shim GANTRY=/gantry/bin/gantry
export GANTRY_TEST_STRICT=1

failed=0
for test in /gantry/tests/*; do
  [ -e "$test" ] || continue
  echo "guest: $(basename "$test")"
  # Left out: what takes an emulated processor too long, times that it does not keep, and a soft limit
  # of open files, which Go sets back now and then in runc 1.1.5 where a processor is that slow.
  "$test" --test-threads 4 \
    --skip every_kill_of_many_is_reported_once \
    --skip no_runtime_is_called_for_them \
    --skip an_exec_in_a_paused_container_is_refused \
    --skip everything_about_an_exec_is_as_asked::runtime_1_Runc || failed=1
done
if grep -qw checkpoint /gantry/parts; then /gantry/checkpoint.sh || failed=1; fi
exit $failed
