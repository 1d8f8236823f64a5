package call

import (
	"strings"
	"time"

	"wasaba.dev/plugin/internal/wire"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_call"
)

func remaining() time.Duration { return time.Duration(wit.RemainingMs()) * time.Millisecond }

func minute() uint64 { return wit.Minute() }

func limit(name string) (uint64, bool) {
	limit := wit.Limit(name)
	return limit.SomeOr(0), limit.IsSome()
}

func agentVersion() string {
	wire.Enter()
	defer wire.Leave()
	return strings.Clone(wit.AgentVersion())
}

func has(feature string) bool { return wit.Has(feature) }
