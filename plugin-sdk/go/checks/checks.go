// Package checks is for plugins that check whether something is as expected.
package checks

import (
	"fmt"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/bridge"
)

// Status is one of the four that Nagios, Sensu and Mackerel have.
type Status uint8

// In the contract's order.
const (
	StatusOK Status = iota
	StatusWarning
	StatusCritical
	StatusUnknown
)

// Report is a check's result.
type Report struct {
	// Name is empty, or which of several checks it is of: it is posted under the table's name, "-" and this name.
	Name   string
	Status Status
	// Message is what the operator reads in the alert: what was found, and what was expected.
	Message string
}

// OK says that everything is as expected.
func OK(format string, arguments ...any) Report { return report(StatusOK, format, arguments) }

// Warning says that it needs attention.
func Warning(format string, arguments ...any) Report { return report(StatusWarning, format, arguments) }

// Critical says that it needs attention immediately.
func Critical(format string, arguments ...any) Report {
	return report(StatusCritical, format, arguments)
}

// Unknown says that the status could not be determined.
func Unknown(format string, arguments ...any) Report { return report(StatusUnknown, format, arguments) }

func report(status Status, format string, arguments []any) Report {
	return Report{Status: status, Message: fmt.Sprintf(format, arguments...)}
}

// Named returns the same report as one of several checks of the plugin.
func (r Report) Named(name string) Report {
	r.Name = name
	return r
}

// Checker is the part of a plugin that checks. Pass it to [plugin.Export].
type Checker struct {
	// Check runs the check once. If it returns several reports, each needs a name, but one.
	Check func(plugin.Settings) ([]Report, error)
}

var checker Checker

// Serve makes it what the agent calls.
func (c Checker) Serve() {
	if c.Check == nil {
		panic("checks.Checker has no Check")
	}
	checker = c
}

func check(settings plugin.Settings) (reports []Report, err error) {
	err = bridge.Call(func() (err error) {
		reports, err = checker.Check(settings)
		return err
	})
	return reports, err
}

func init() {
	bridge.Check = func(settings any) (any, error) { return check(settings.(plugin.Settings)) }
}
