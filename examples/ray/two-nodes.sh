#!/bin/bash
# A study on a Ray cluster. Here both nodes are this machine; elsewhere run the second `ray start` on the other one.
#
#   examples/ray/two-nodes.sh study.toml out/study
#
# All nodes have to see the output folder under the same path. A node may join or leave at any time.
set -euo pipefail

study=${1:?"usage: two-nodes.sh STUDY.toml OUT"}
out=${2:?"usage: two-nodes.sh STUDY.toml OUT"}
port=${RAY_PORT:-6379}
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-disabled}     # elsewhere: token, with ~/.ray/auth_token on every node

trap 'kill $(jobs -p); wait' EXIT                   # these two nodes, and no other Ray of this machine
ray start --block --head --node-ip-address 127.0.0.1 --port "$port" --num-cpus 1 --include-dashboard false &
until ray status --address "127.0.0.1:$port" &> /dev/null; do kill -0 $!; sleep 1; done   # ends with the head
ray start --block --address "127.0.0.1:$port" --node-ip-address 127.0.0.2 --num-cpus 1 &

kleiber run "$study" --out "$out" --engine ray --address "127.0.0.1:$port"
