#!/bin/sh
# A study in one job, run after run: sbatch configs/engines/slurm_job.sh configs/quick.yml
#SBATCH --job-name=study
#SBATCH --time=02:00:00
#SBATCH --cpus-per-task=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
# SIGUSR1 comes to this script 120 s before the time is up: the study keeps what is under way, and
# the job is queued again. It is not where the study ended by itself, whatever its exit code.
trap 'asked=yes; kill -USR1 "$study"' USR1
python -m benchmark run "$@" &
study=$!
wait "$study"
code=$?
if [ -n "${asked:-}" ]; then
    wait "$study"
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
