package e2e

// scripts are the programs of every story, beside those of newStage: shell, so
// that a story reads as what a person would type.
func scripts() map[string]string {
	return map[string]string{
		// up starts the local cluster, fills its registry, and starts the agent.
		"up": `set -e
local-start
aws ecs create-cluster --cluster-name story >/dev/null
push 127.0.0.1:4580/box:1
agent-start "$@"`,
		"local-start": `cd "$WORK"
setsid berth local --listen 127.0.0.1:4580 --state "$WORK/local" "$@" >>"$WORK/local.log" 2>&1 </dev/null &
echo $! >"$WORK/local.pid"
eventually 10s . get http://127.0.0.1:4580/_berth/health >/dev/null || { cat "$WORK/local.log" >&2; exit 1; }`,
		"local-stop": `kill -TERM $(cat "$WORK/local.pid"); while kill -0 $(cat "$WORK/local.pid") 2>/dev/null; do sleep 0.05; done`,
		"agent-start": `cd "$WORK"
setsid shut-in berth agent "$@" >>"$WORK/agent.log" 2>&1 &
echo $! >"$WORK/agent.pid"
connected || { tail -50 "$WORK/agent.log" >&2; exit 1; }`,
		"agent-kill": `kill -KILL $(cat "$WORK/agent.pid"); while kill -0 $(cat "$WORK/agent.pid") 2>/dev/null; do sleep 0.02; done`,
		"agent-stop": `kill -TERM $(cat "$WORK/agent.pid"); while kill -0 $(cat "$WORK/agent.pid") 2>/dev/null; do sleep 0.02; done`,
		// standin-start starts what stands in for AWS beside the local cluster, which
		// knows the keys of the roles, and puts an image into its registry.
		"standin-start": `cd "$WORK"
setsid standin serve 127.0.0.1:4590 "$WORK/ca.pem" "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" http://127.0.0.1:4580/_berth/keys/ \
  >>"$WORK/standin.log" 2>&1 </dev/null &
eventually 10s ready get http://127.0.0.1:4590/_standin/ >/dev/null || { cat "$WORK/standin.log" >&2; exit 1; }
push 127.0.0.1:4591/box:1`,
		// on-disk TEXT… names the files of the agent and of containerd that hold one of
		// the texts. File systems in memory are no disk.
		"on-disk": `for text in "$@"; do
  find "$WORK/data" "$RUN" "$WORK/agent.log" $CONTAINERD_DIRS -xdev -type f -exec grep -laF -e "$text" {} +
done; true`,
		// connected waits until the agent says that it is, and then the cluster: which may
		// not have heard yet that the last one is gone.
		"connected": `eventually 30s '^true$' sh -c 'berth status --json | jq "any(.connections[]; .name == \"acs\" and .connected)"' >/dev/null &&
eventually 30s '^true$' instance .agentConnected >/dev/null`,
		// ecs OPERATION JSON is a signed request: aws without the second that it takes to
		// start, for what is asked again and again.
		"ecs": `get -X POST --aws-sigv4 "aws:amz:$AWS_DEFAULT_REGION:ecs" -u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
  -H 'Content-Type: application/x-amz-json-1.1' -H "X-Amz-Target: AmazonEC2ContainerServiceV20141113.$1" -d "$2" http://127.0.0.1:4580/`,
		"instance": `ecs DescribeContainerInstances "$(ecs ListContainerInstances '{"cluster": "story"}' |
  jq -c '{cluster: "story", containerInstances: .containerInstanceArns[:1]}')" | jq -r ".containerInstances[0] | $1"`,
		// run FILE [ARGS] registers a task definition and runs it; the ARNs of the
		// tasks are kept in the file "task".
		"run": `set -e
file=$1; shift
ecs RegisterTaskDefinition "@$WORK/$file" >/dev/null
aws ecs run-task --cluster story --task-definition $(jq -r .family "$WORK/$file") "$@" >"$WORK/run.json"
jq -r '.tasks[].taskArn' "$WORK/run.json" >"$WORK/task"
jq -c '.failures[]' "$WORK/run.json"`,
		// task QUERY asks about the first task run.
		"task":      `ecs DescribeTasks "$(jq -Rnc '{cluster: "story", tasks: [inputs]}' "$WORK/task")" | jq -r ".tasks[0] | $1"`,
		"tasks":     `ecs DescribeTasks "$(jq -Rnc '{cluster: "story", tasks: [inputs]}' "$WORK/task")" | jq -r ".tasks[] | $1"`,
		"is":        `eventually 40s "^$1\$" task .lastStatus >/dev/null || { task .; tail -30 "$WORK/agent.log"; false; } >&2`,
		"stop-task": `for t in $(cat "$WORK/task"); do ecs StopTask "{\"cluster\": \"story\", \"task\": \"$t\"}" >/dev/null; done`,
		"faults":    `get -X POST -H 'Content-Type: application/json' -d "$1" http://127.0.0.1:4580/_berth/faults`,
		// clean waits until nothing is left of the stopped tasks.
		"clean": `eventually 20s . sh -c 'left-behind && echo nothing' || { left-behind; tail -40 "$WORK/agent.log"; false; } >&2`,
	}
}
