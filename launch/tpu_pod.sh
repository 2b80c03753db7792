#!/usr/bin/env bash
# The same command on every host of a TPU slice; JAX finds the others by itself. On each host lies a clone with .venv
# (`make quickstart EXTRAS=quickstart,tpu`, or pip install -e .[tpu]) in DIR.
#   NAME=my-slice ZONE=us-central2-b launch/tpu_pod.sh --config=configs/contrastive/clip_quickstart.py \
#     --workdir=gs://bucket/runs/clip
set -euo pipefail
: "${NAME:?the name of the TPU slice}" "${ZONE:?its zone}"

command="cd ${DIR:-vljax} && .venv/bin/python launch/train.py $(printf '%q ' "$@")"
exec gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$command"
