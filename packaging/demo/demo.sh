#!/usr/bin/env bash
# The main job, from joining a cluster to the last trace: `sudo make demo` runs
# this. Everything happens in a network namespace of its own, on a containerd of
# its own, in a directory of its own; at the end nothing of it is left.
set -euo pipefail

berth=${BERTH:-$PWD/bin/berth}
push=${PUSHIMAGE:-$PWD/bin/pushimage}
ns=berth-demo-$$
dir=$(mktemp -d /run/berth-demo-XXXX)
data=$(mktemp -d /var/tmp/berth-demo-XXXX)
endpoint=http://127.0.0.1:4580

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() { printf '%s$ %s%s\n' "$dim" "$*" "$plain"; }
inside() { nsenter --net="/run/netns/$ns" -- "$@"; }
ecs() { inside /usr/bin/aws --endpoint-url "$endpoint" ecs "$@"; }
until_true() { # SECONDS COMMAND…
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		if [ $SECONDS -ge $end ]; then
			echo "demo: this did not come true in time: $*" >&2
			tail -n 20 "$dir"/*.log >&2
			exit 1
		fi
		sleep 0.1
	done
}
stop() { # a process of ours, by its pid
	[ -n "${1:-}" ] || return 0
	kill -TERM "$1" 2>/dev/null || return 0
	for _ in $(seq 100); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.05; done
	kill -KILL "$1" 2>/dev/null || true
}

clean() {
	set +e
	stop "${agent:-}"
	# What is still in the network namespace is ours: the log process.
	local own pid
	own=$(stat -Lc %i "/run/netns/$ns")
	for pid in $(ls /proc | grep -E '^[0-9]+$'); do
		[ "$(stat -Lc %i "/proc/$pid/ns/net" 2>/dev/null)" = "$own" ] && stop "$pid"
	done
	for c in $(ctr -a "$dir/containerd.sock" -n berth c ls -q 2>/dev/null); do
		ctr -a "$dir/containerd.sock" -n berth t rm -f "$c" >/dev/null 2>&1
		ctr -a "$dir/containerd.sock" -n berth c rm "$c" >/dev/null 2>&1
	done
	stop "${containerd:-}"
	grep -o " $dir[^ ]*\| $data[^ ]*" /proc/self/mounts | sort -r | while read -r m; do umount -l "$m"; done
	ip netns del "$ns"
	rm -rf "$dir" "$data"
}
trap clean EXIT
trap 'exit 130' INT TERM

ip netns add "$ns"
ip -n "$ns" link set lo up
cat >"$dir/containerd.toml" <<TOML
version = 2
root = "$data/containerd"
state = "$dir/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "$dir/containerd.sock"
TOML
containerd --config "$dir/containerd.toml" >"$dir/containerd.log" 2>&1 &
containerd=$!
export AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo AWS_DEFAULT_REGION=us-east-1 AWS_PAGER=
export BERTH_SOCKET=$dir/berth.sock

step "1. A cluster: an ECS of our own on loopback, with an image registry"
show "berth local &"
inside "$berth" local --listen 127.0.0.1:4580 --state "$data/local" >"$dir/local.log" 2>&1 &
until_true 10 grep -q NAME "$dir/local.log"
cat "$dir/local.log"
ecs create-cluster --cluster-name demo >/dev/null
inside "$push" 127.0.0.1:4580/web:1

step "2. This host joins it"
cat >"$dir/ecs.config" <<CONFIG
# The same file that the ECS agent reads.
ECS_CLUSTER=demo
ECS_BACKEND_HOST=$endpoint
ECS_DATADIR=$data/agent
ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=1s
BERTH_RUN_DIR=$dir/run
BERTH_SOCKET=$dir/berth.sock
BERTH_CONTAINERD_ADDRESS=$dir/containerd.sock
CONFIG
show "berth agent &"
inside "$berth" agent --config "$dir/ecs.config" >"$dir/agent.log" 2>&1 &
agent=$!
joined() { [ "$(ecs list-container-instances --cluster demo | jq '.containerInstanceArns | length')" = 1 ]; }
until_true 20 joined
instance=$(ecs list-container-instances --cluster demo | jq -r '.containerInstanceArns[0]')
connected() { ecs describe-container-instances --cluster demo --container-instances "$instance" | jq -e '.containerInstances[0].agentConnected'; }
until_true 20 connected
show "aws ecs describe-container-instances …"
ecs describe-container-instances --cluster demo --container-instances "$instance" |
	jq -r '.containerInstances[0] | "status\t\(.status)", "agent\t\(if .agentConnected then "connected" else "away" end)", (.remainingResources[] | select(.integerValue > 0) | "\(.name)\t\(.integerValue)")' 

step "3. A task definition runs: a port, environment variables, limits"
cat >"$dir/web.json" <<'JSON'
{
  "family": "web",
  "containerDefinitions": [{
    "name": "web", "image": "127.0.0.1:4580/web:1", "cpu": 256, "memory": 64,
    "command": ["sh", "-c", "ballast=$(yes | head -c 12000000); echo \"hello, $WHO\" >/tmp/index.html; echo serving; httpd -f -p 80 -h /tmp & wait"],
    "linuxParameters": {"initProcessEnabled": true},
    "environment": [{"name": "WHO", "value": "world"}],
    "portMappings": [{"containerPort": 80, "hostPort": 8080}]
  }]
}
JSON
ecs register-task-definition --cli-input-json "file://$dir/web.json" >/dev/null
show "aws ecs run-task --cluster demo --task-definition web"
task=$(ecs run-task --cluster demo --task-definition web | jq -r '.tasks[0].taskArn')
describe() { ecs describe-tasks --cluster demo --tasks "$task" | jq -r ".tasks[0] | $1"; }
status_is() { [ "$(describe .lastStatus)" = "$1" ]; }
until_true 30 status_is RUNNING
printf '%s is RUNNING\n' "${task##*/}"
inside "$berth" events | tail -n 12

step "4. It answers on its port"
show "curl http://127.0.0.1:8080/"
until_true 10 inside curl -sS -f -m 5 http://127.0.0.1:8080/
inside curl -sS -m 5 http://127.0.0.1:8080/
show "berth ps"
inside "$berth" ps
show "berth logs ${task##*/}"
inside "$berth" logs "${task##*/}"

step "5. Its CPU and memory use reach the cluster"
for _ in $(seq 200); do inside curl -s -o /dev/null -m 5 http://127.0.0.1:8080/; done
metrics() { inside curl -sS "$endpoint/_berth/metrics" | jq -e '[.. | .containerMetrics? // empty | .[] | select(.cpuStatsSet)] | length > 0'; }
until_true 60 metrics
show "what ECS was told (TCS)"
inside curl -sS "$endpoint/_berth/metrics" | jq -r '[.. | .containerMetrics? // empty | .[] | select(.cpuStatsSet)][0] |
  "\(.containerName)  cpu % of host: min \(.cpuStatsSet.min * 100 | round / 100) max \(.cpuStatsSet.max * 100 | round / 100)   memory MiB: min \(.memoryStatsSet.min) max \(.memoryStatsSet.max)   samples \(.cpuStatsSet.sampleCount)"'
show "berth top --once"
inside "$berth" top --once

step "6. It stops, and nothing is left"
show "aws ecs stop-task …"
ecs stop-task --cluster demo --task "$task" --reason "the demo is over" >/dev/null
until_true 40 status_is STOPPED
describe '"\(.lastStatus): \(.stoppedReason)   exit code \(.containers[0].exitCode)"'
gone() { [ -z "$(ctr -a "$dir/containerd.sock" -n berth c ls -q)$(ls "$dir/run/netns" 2>/dev/null)$(ip -n "$ns" -o link show type veth)" ]; }
until_true 20 gone
echo "containers: none   network namespaces: none   links: none"
printf '\n%s\n' "${bold}That was the whole job. Point the same agent at Amazon ECS by leaving out ECS_BACKEND_HOST.$plain"
