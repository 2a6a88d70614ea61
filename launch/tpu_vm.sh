#!/usr/bin/env bash
# Runs a sweep on a Cloud TPU VM or on a slice of several: requests the machine, runs the sweep,
# requests the machine again after a preemption, and deletes it at the end.
#
#   ZONE=us-central1-a launch/tpu_vm.sh [--dry_run] NAME --config FILE --workdir gs://BUCKET/DIR ...
#
# NAME is the name of the queued resource and of its node. gru_audio.sweep gets the other arguments.
# --dry_run only prints the commands. Environment variables and their defaults:
#
#   ACCELERATOR  v5litepod-8, one host; v5litepod-16 and larger are slices of several hosts
#   RUNTIME      v2-alpha-tpuv5-lite; must match the accelerator
#   SPOT         yes; SPOT= requests a machine that is not preempted
#   PREPARE      spoken_digit: the arguments of gru_audio.prepare, on each host
#
# The workdir must be in a bucket, because the disk is deleted with the machine. The hosts run the
# code of the last commit. The exit code is that of the sweep. Needs bash 4.4 or later.
set -euo pipefail

DRY_RUN=
if [[ ${1-} == --dry_run ]]; then
    DRY_RUN=yes
    shift
fi
if (($# < 2)) || [[ $1 == -* || ! ${ZONE-} ]]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    echo "error: this is bash $BASH_VERSION; 4.4 or later is needed." >&2
    exit 2
fi
if [[ " ${*/#--workdir=/--workdir }" != *" --workdir gs://"* ]]; then
    echo "error: --workdir gs://BUCKET/DIR is needed: the machine's disk is deleted with it." >&2
    exit 2
fi
NAME=$1
SWEEP=("${@:2}")
CODE=$(mktemp -d)/code.tar.gz
CREATED= # not empty if this script created the resource; it deletes no other

main() {
    trap finish EXIT
    git -C "$(dirname "$0")/.." archive --output="$CODE" HEAD
    while true; do
        request
        wait_until_active && set_up && sweep && exit 0
        code=$?
        if ((code != 75)) && still_active; then
            exit "$code"
        fi
        delete
    done
}

request() {
    local spot=(--spot)
    [[ ${SPOT-yes} ]] || spot=()
    run gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
        --accelerator-type="${ACCELERATOR:-v5litepod-8}" \
        --runtime-version="${RUNTIME:-v2-alpha-tpuv5-lite}" \
        --scopes=https://www.googleapis.com/auth/cloud-platform "${spot[@]}"
    CREATED=yes
}

wait_until_active() {
    local state before=
    while true; do
        state=$(state)
        [[ $state == "$before" ]] || echo "$NAME: $state"
        before=$state
        case $state in
            ACTIVE) return 0 ;;
            FAILED | SUSPENDING | SUSPENDED) return 75 ;;
        esac
        sleep 30
    done
}

set_up() {
    run gcloud compute tpus tpu-vm scp "$CODE" "$NAME:" --zone="$ZONE" --worker=all &&
        on_all_hosts "mkdir -p gru_audio && tar -xzf code.tar.gz -C gru_audio" &&
        on_all_hosts "python3 -m pip install --quiet --user uv" &&
        in_code "python3 -m uv venv --clear --python=3.12" &&
        in_code "python3 -m uv pip install -c constraints.txt -e '.[tpu,gcs]'" &&
        in_code ".venv/bin/python -m gru_audio.prepare ${PREPARE:-spoken_digit}"
}

sweep() {
    # gcloud repeats a command after a lost connection. The lock makes it wait for the first one.
    in_code "flock --timeout=600 .lock .venv/bin/python -m gru_audio.sweep ${SWEEP[*]@Q} \
--config.parallel.coordinator=auto"
}

in_code() {
    on_all_hosts "cd gru_audio && $1"
}

on_all_hosts() {
    run gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all \
        --ssh-flag=-oServerAliveInterval=30 --command="$1"
}

still_active() {
    sleep 60 # a preempted machine changes its state after a delay
    [[ $(state) == ACTIVE ]]
}

state() {
    if [[ $DRY_RUN ]]; then
        echo ACTIVE
    else
        gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" \
            --format="value(state.state)"
    fi
}

delete() {
    run gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
    CREATED=
}

finish() {
    rm -r "$(dirname "$CODE")"
    if [[ $CREATED ]]; then
        delete
    else
        echo "Nothing was deleted. If $NAME exists and is not needed: gcloud compute tpus" \
            "queued-resources delete $NAME --zone=$ZONE --force" >&2
    fi
}

run() {
    if [[ ! $DRY_RUN ]]; then
        "$@"
        return
    fi
    local word line=
    for word in "$@"; do
        [[ $word =~ ^[[:alnum:]/:=.,_-]+$ ]] || word=${word@Q}
        line+="$word "
    done
    echo "${line% }"
}

main
