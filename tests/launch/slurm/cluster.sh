#!/usr/bin/env bash
# A SLURM cluster of one node, on this machine and in one folder; nothing outside it is touched.
#
#   cluster.sh up FOLDER      # then: export SLURM_CONF=FOLDER/slurm.conf
#   cluster.sh down FOLDER
#
# It takes Debian's packages slurm-wlm and munge; root is not needed. FOLDER must be short, since
# munge's socket lies in it. The node claims four CPUs whatever it has. Jobs of the partition
# "urgent" preempt those of "main", which get SIGTERM, half a minute, and a new place in the queue.
set -euo pipefail

wait_until() {  # SECONDS COMMAND ...
    local deadline=$((SECONDS + $1))
    until "${@:2}" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || { echo "cluster.sh: in vain: ${*:2}" >&2; return 1; }
        sleep 0.1
    done
}

free_ports() {  # two of them
    python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))'
}

configure() {
    local host user ports
    host=$(hostname -s)
    user=$(id -un)
    read -ra ports < <(free_ports)
    cat >"$1/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
SlurmctldPort=${ports[0]}
SlurmdPort=${ports[1]}
AuthInfo=socket=$1/munge.socket,cred_expire=5
StateSaveLocation=$1/state
SlurmdSpoolDir=$1/spool
SlurmctldPidFile=$1/slurmctld.pid
SlurmdPidFile=$1/slurmd.pid
SlurmctldLogFile=$1/slurmctld.log
SlurmdLogFile=$1/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=4
PartitionName=main Nodes=$host Default=YES PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=$host PriorityTier=2
END
}

up() {
    mkdir -p "$1"/{state,spool}
    chmod 755 "$1"
    head -c 1024 /dev/urandom >"$1/munge.key"
    chmod 600 "$1/munge.key"
    munged --force --key-file="$1/munge.key" --seed-file="$1/munge.seed" \
        --socket="$1/munge.socket" --pid-file="$1/munged.pid" --log-file="$1/munged.log"
    configure "$1"
    export SLURM_CONF=$1/slurm.conf
    slurmctld
    slurmd
    wait_until 30 idle
}

idle() {
    scontrol --oneliner show node | grep --quiet "State=IDLE "
}

down() {
    local name pid
    for name in slurmd slurmctld munged; do
        if [[ -s $1/$name.pid ]]; then
            pid=$(<"$1/$name.pid")
            kill "$pid"
            wait_until 30 gone "$pid"
        fi
    done
}

gone() {
    [[ ! -d /proc/$1 ]]
}

"$1" "$(realpath -m "$2")"
