// Package sampler reads every container once a second, in one loop, and keeps what the rest of the agent asks for: the newest
// reading (metadata endpoint, berth top, OpenMetrics) and the statistics since the last report (TCS).
//
// The loop starts at a random moment of its period, so that a fleet of hosts does not read in step. Sources stay open from one
// round to the next. A source that is gone is tried again ever more rarely, and quietly, until the container is untracked: a
// container that is started again under the same name is so picked up by itself.
//
// The goroutine of Run does all the reading. Everything else may be called at any time, before Run and after it, from any goroutine;
// a caller waits for the reading of one container at most.
package sampler
