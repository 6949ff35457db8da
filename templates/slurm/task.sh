#!/bin/bash
{{ made_by }}
# Task {{ name }}: {{ what }} {{ nodes | join(", ") | comment }}.
{% for line in directives %}
#SBATCH {{ line }}
{% endfor %}
{% if stopped_in_time %}
# SIGTERM comes to this script a minute before its time is over.
#SBATCH --signal=B:TERM@60
{% endif %}

# One argument: a name that all tasks of a submission share.
group=${1:-slurm-${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-0}}}

# Temporary files are on the disk of the host.
export FLOW_TEMP_DIR=${FLOW_TEMP_DIR:-${TMPDIR:-/tmp}}

# Partitions in progress are finished and saved when flow is asked to end.
stopped='' flow=''
trap 'stopped=yes; [ -z "$flow" ] || kill -TERM "$flow" 2>/dev/null' TERM

run() {
  "${FLOW_BIN:-flow}" --project {{ project | sh }} \
{% for word in words %}
    {{ word }}{{ " &" if loop.last else " \\" }}
{% endfor %}
  flow=$!
  # The signal may have come before its number was known.
  [ -z "$stopped" ] || kill -TERM "$flow" 2>/dev/null
  wait "$flow"
  code=$?
  # A signal ends `wait` and not flow.
  while kill -0 "$flow" 2>/dev/null; do
    wait "$flow"
    code=$?
  done
}

# Exit 75 means that trying again later helps: an outage, a quota. Everything else does not change by itself.
delay=${FLOW_RETRY_DELAY:-30}
for attempt in {1..{{ attempts }}}; do
  run
  [ "$code" -eq 75 ] && [ -z "$stopped" ] && [ "$attempt" -lt {{ attempts }} ] || exit "$code"
  printf 'attempt %s of {{ attempts }} ended with 75; the next one starts in %s s\n' "$attempt" "$delay" >&2
  sleep "$delay" &
  wait $!
  [ -z "$stopped" ] || exit 75
  delay=$((delay * 2 < 600 ? delay * 2 : 600))
done
