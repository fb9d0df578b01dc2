// Package localcluster is a one-host Amazon ECS: the ECS API, the agent
// communication service (ACS), the telemetry service (TCS) and an image
// registry, on one port of loopback. `berth local` runs it to develop against,
// and the tests run it as the other end of the wire. Several agents may join.
//
// It uses the wire packages and none of the agent's client code, so that the two
// ends cannot share a mistake. The connections are real HTTP and real
// websockets, and POST /_berth/faults makes them hold, drop and damage.
//
//	POST /            ECS API for users and agents (AWS JSON 1.1)
//	GET  /acs/ws      agent communication websocket
//	GET  /tcs/ws      telemetry websocket
//	     /v2/         image registry (OCI distribution)
//	GET  /_berth/…    health, metrics, frames, milestones, keys; POST /_berth/faults
//
// Faults are what a test needs to make go wrong; see Faults for all of them:
//
//	curl -d '{"dropAcs":true}' http://127.0.0.1:4580/_berth/faults
//	curl -d '{"refuseSubmits":3,"muteHeartbeats":true}' http://127.0.0.1:4580/_berth/faults
//
// One state, behind one lock, is the truth about clusters, task definitions,
// instances and tasks. A change is on disk before it is answered or told to an
// agent; several changes at once share one write. Websocket sessions keep no
// truth: each looks at the state when it is woken and tells its agent what that
// agent has not been told yet.
//
//	   run-task                agent submits
//	      │                 ┌──────────┬─────────────┐
//	      ▼                 ▼          ▼             ▼
//	PROVISIONING ──────► PENDING ──► RUNNING     STOPPED
//	(awsvpc only)           │          │             ▲
//	                        └────┬─────┘             │
//	    stop-task, or an         ▼                   │
//	essential container ends  DEACTIVATING ► STOPPING┘
//	                       (stop is due)  (agent acked it)
package localcluster
