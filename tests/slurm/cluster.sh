#!/usr/bin/env bash
# A throw-away SLURM of one node, on loopback only: cluster.sh up|down FOLDER
# Needs slurmctld, slurmd, slurm-client and munge; writes below FOLDER alone; the GPUs are links to /dev/null.
# Sizes and ports by environment: CPUS, MEM (MB, never more than the machine has), GPUS, PORT (this one, the next, and 100 from
# PORT + 100 on). CGROUP=no: memory is watched by SLURM and not limited by the kernel, as where control groups cannot be made.
set -euo pipefail
command=$1
folder=$(realpath -m "$2") # the daemons want absolute paths: with others every job launch fails after a minute
host=$(hostname -s)
PATH=$PATH:/usr/sbin:/sbin # where the daemons are, also for users who don't look there

configure() {
    local cpus=${CPUS:-8} memory=${MEM:-8000} gpus=${GPUS:-2} port=${PORT:-16817}
    mkdir -p "$folder"/{state,spool,log,munge,dev,bin}
    chmod 755 "$folder" "$folder/munge"
    chmod 700 "$folder/state"
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
    # a GPU must be a character device, else CUDA_VISIBLE_DEVICES is not set
    for i in $(seq 0 $((gpus - 1))); do ln -sfn /dev/null "$folder/dev/gpu$i"; done
    limits=$'ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nJobAcctGatherParams=OverMemoryKill'
    if [ "${CGROUP:-}" != no ] && [ "$(id -u)" = 0 ] && mkdir "/sys/fs/cgroup/memory/probe$$" 2>/dev/null; then
        rmdir "/sys/fs/cgroup/memory/probe$$"
        limits=$'ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup'
        cat >"$folder/cgroup.conf" <<END
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
ConstrainCores=no
ConstrainDevices=no
END
    fi
    cat >"$folder/slurm.conf" <<END
ClusterName=atlas
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SrunPortRange=$((port + 100))-$((port + 199))
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
# a requeued job waits for this many seconds and one more
AuthInfo=socket=$folder/munge/sock,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
$limits
SwitchType=switch/none
MpiDefault=none
PropagateResourceLimits=NONE
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# more processors than the machine has, so that jobs wait for GPUs and memory only
SlurmdParameters=config_overrides
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/jobs.txt
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
MinJobAge=600
KillWait=2
InactiveLimit=0
SlurmdTimeout=10
SlurmctldTimeout=10
ReturnToService=2
DefMemPerCPU=500
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=$memory Gres=gpu:fake:$gpus State=UNKNOWN
PartitionName=short Nodes=$host Default=YES MaxTime=24:00:00 DefaultTime=10 State=UP
PartitionName=a100 Nodes=$host Default=NO MaxTime=12:00:00 DefaultTime=10 State=UP
END
    printf 'AutoDetect=off\nNodeName=%s Name=gpu Type=fake File=%s/dev/gpu[0-%d]\n' \
        "$host" "$folder" $((gpus - 1)) >"$folder/gres.conf"
    # Snakemake's plugin takes SLURM_CONF out of a job's environment before it calls srun
    printf '#!/bin/sh\nSLURM_CONF=%s/slurm.conf exec %s "$@"\n' "$folder" "$(command -v srun)" >"$folder/bin/srun"
    chmod +x "$folder/bin/srun"
}

up() {
    configure
    munged -f --key-file="$folder/munge/key" --socket="$folder/munge/sock" --pid-file="$folder/munge/pid" \
        --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" 2>"$folder/log/munged.log" ||
        { cat "$folder/log/munged.log" >&2 && return 1; }
    export SLURM_CONF=$folder/slurm.conf
    slurmctld -c -f "$SLURM_CONF"
    slurmd -f "$SLURM_CONF"
    # sinfo says "idle" too early: only a job that ran shows that jobs run
    for _ in $(seq 30); do
        if timeout 2 srun -Q -p a100 --gpus=1 true 2>/dev/null; then echo ready && return; fi
        sleep 0.5
    done
    tail -n 20 "$folder"/log/*.log >&2
    return 1
}

down() {
    export SLURM_CONF=$folder/slurm.conf
    timeout 10 scancel -u "$(id -un)" 2>/dev/null || true
    # until no job is left whose processes slurmd would leave behind
    for _ in $(seq 20); do [ -n "$(timeout 2 squeue -h 2>/dev/null)" ] || break && sleep 0.5; done
    for file in slurmd.pid slurmctld.pid munge/pid; do
        [ -s "$folder/$file" ] || continue
        daemon=$(cat "$folder/$file")
        kill "$daemon" 2>/dev/null || continue
        for _ in $(seq 120); do kill -0 "$daemon" 2>/dev/null || break && sleep 0.1; done
        if kill -0 "$daemon" 2>/dev/null; then kill -9 "$daemon"; fi
    done
    rmdir /sys/fs/cgroup/{memory,freezer}/slurm_"$host" 2>/dev/null || true
}

case $command in
up | down) "$command" ;;
*) echo "expected: cluster.sh up|down FOLDER" >&2 && exit 2 ;;
esac
