#!/bin/sh
# A SLURM cluster of this machine alone, from nothing: Debian or Ubuntu, as root, in a container too.
#
#   sh tools/slurm_node.sh           installs what is missing, starts it, waits until it answers
#   sh tools/slurm_node.sh stop      stops it; what is installed stays
#
# Jobs are accounted for (sacct), as submitit needs to notice those that were cancelled. CPUS and
# GPUS, of the environment, are what the node says it has: a GPU is not looked for, only handed out,
# so that requests for one can be tried where there is none.
set -eu
CPUS=${CPUS:-$(nproc)}
GPUS=${GPUS:-2}
NODE=$(hostname -s)

stop() {
    for service in slurmd slurmctld slurmdbd mariadb munge; do
        service $service stop || true
    done
}

# until the command says the word, for a minute at most
answers() {
    for _ in $(seq 60); do
        if $1 2> /dev/null | grep --quiet "$2"; then return; fi
        sleep 1
    done
    echo "no answer from: $1" >&2
    tail --lines=5 /var/log/slurm/*.log >&2
    exit 1
}

if [ "${1:-}" = stop ]; then
    stop
    exit
fi

for command in munged mariadbd slurmdbd slurmctld slurmd sbatch sacct; do
    if [ ! -x "/usr/sbin/$command" ] && [ ! -x "/usr/bin/$command" ]; then
        apt-get install --yes --no-install-recommends munge mariadb-server slurmdbd slurm-wlm
        break
    fi
done

cat > /etc/slurm/slurm.conf <<CONF
ClusterName=one
SlurmctldHost=$NODE(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
# no cgroups: a container may not make any
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ReturnToService=2
# a job may be asked to end, and may be submitted again by itself
JobRequeue=1
KillWait=30
GresTypes=gpu
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=$CPUS Gres=gpu:$GPUS State=UNKNOWN
PartitionName=all Nodes=$NODE Default=YES MaxTime=INFINITE
CONF
# files that stand for devices
echo "NodeName=$NODE Name=gpu File=/dev/tty[1-$GPUS]" > /etc/slurm/gres.conf
# the database lets root in by who it is, without a password
cat > /etc/slurm/slurmdbd.conf <<CONF
AuthType=auth/munge
DbdHost=$NODE
DbdAddr=127.0.0.1
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
PidFile=/run/slurmdbd.pid
LogFile=/var/log/slurm/slurmdbd.log
CONF
chmod 600 /etc/slurm/slurmdbd.conf
mkdir -p /var/lib/slurm/slurmctld /var/lib/slurm/slurmd /var/log/slurm

stop > /dev/null 2>&1
service munge start
service mariadb start
service slurmdbd start
answers "sacctmgr --noheader list user" root
sacctmgr --immediate add cluster one || true  # it may be there already
service slurmctld start
service slurmd start
answers "sinfo --noheader --format=%T" idle
sinfo
