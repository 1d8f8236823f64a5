// Package call is the call itself, and the agent that makes it.
package call

import "time"

// Remaining is how much time is left until the call times out.
func Remaining() time.Duration { return remaining() }

// Minute is the minute that the call is for.
func Minute() time.Time { return time.Unix(int64(minute()), 0).UTC() }

// Limit is a limit of the instance by its name in the operator's table, such as "samples", and whether the agent has it.
func Limit(name string) (uint64, bool) { return limit(name) }

// AgentVersion is the agent's version.
func AgentVersion() string { return agentVersion() }

// Has is whether the agent has a capability ("tcp"), or what came to one later ("tcp.is-local").
func Has(feature string) bool { return has(feature) }
