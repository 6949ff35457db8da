#!/bin/bash
{{ made_by }}
# Submits the tasks of {{ title | comment }} ({{ digest }}). Its arguments go to each `sbatch`: ./submit.sh --partition=long
# Submit it again after a failure: what is done is skipped. Logs are in `logs/`, beside this file.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p logs

options=("$@")
group=slurm-$(date -u +%Y%m%d-%H%M%S)-$$
declare -A jobs

# A part of the tasks is of no use: what was submitted is cancelled.
trap 'printf "error: not everything could be submitted\n" >&2; [ -z "${jobs[*]-}" ] || scancel "${jobs[@]}"' ERR

# submit NAME [TASK…]: submits NAME.sbatch, which starts when each TASK has succeeded.
submit() {
  local name=$1 after='' task job
  shift
  for task in "$@"; do
    after+=:${jobs[$task]}
  done
  job=$(sbatch --parsable ${after:+--dependency="afterok$after"} ${after:+--kill-on-invalid-dep=yes} \
    ${options[@]+"${options[@]}"} "$name.sbatch" "$group")
  jobs[$name]=${job%%;*}
  printf '%s\t%s\n' "${jobs[$name]}" "$name"
}

{% for task in tasks %}
submit {{ task.name }}{% for other in task.after %} {{ other }}{% endfor %}

{% endfor %}
