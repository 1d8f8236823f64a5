// Package bridge connects package plugin with the others of the SDK without making that a part of its API.
package bridge

import (
	"fmt"
	"time"

	"wasaba.dev/plugin/internal/place"
)

// Error is an error as the contract has it.
type Error struct {
	Kind, Message string
	RetryAfter    time.Duration
	Attributes    [][2]string
}

// Value is one value of a setting.
type Value struct {
	Key, Text string
	// Secret is nil if it is none. In a component it is a handle, else the text.
	Secret any
}

var (
	// NewError makes a *plugin.Error.
	NewError func(Error) error
	// ErrorParts returns what the contract wants to know of an error.
	ErrorParts func(error) Error
	// NewSettings makes plugin.Settings.
	NewSettings func([]Value) any
	// Collect, Graphs, Check and Gather run the parts of a plugin, for the test host; nil if the plugin does not import them.
	Collect func(settings any) (any, error)
	Graphs  func(settings any) any
	Check   func(settings any) (any, error)
	Gather  func(settings any) (any, error)
	// SecretOf returns what a *plugin.Secret was made of; nil for a nil one.
	SecretOf func(any) any
)

// Hidden is what a secret prints as.
const Hidden = "[secret]"

// fault is the first mistake of the plugin's author in this call.
var fault error

// running is whether a call is under way: mistakes outside of it, as in a unit test of a parser, are not reported.
var running bool

// Mistake is what the plugin's author has to mend. It is remembered until the call ends, which then fails with it, so that it is seen
// wherever it was made.
func Mistake(format string, arguments ...any) error {
	return MistakeAt(place.Of(), format, arguments...)
}

// MistakeAt is [Mistake] with the line of the author's code, as place.Of returned it.
func MistakeAt(line, format string, arguments ...any) error {
	made := NewError(Error{Kind: "failed", Message: line + fmt.Sprintf(format, arguments...)})
	if running && fault == nil {
		fault = made
	}
	return made
}

// Panicked is thrown by what has no error to return, and becomes the result of the call.
type Panicked struct{ Err error }

// Error lets it be read if it is thrown outside of a call.
func (p Panicked) Error() string { return p.Err.Error() }

// Unwrap returns the error.
func (p Panicked) Unwrap() error { return p.Err }

// Call runs a part of the plugin. A panic becomes an error with the line of the author's code that led to it.
func Call(run func() error) (err error) {
	fault, running = nil, true
	defer func() {
		running = false
		switch thrown := recover().(type) {
		case nil:
		case Panicked:
			err = thrown.Err
		default:
			err = NewError(Error{Kind: "failed", Message: fmt.Sprintf("%spanic: %v", place.Of(), thrown)})
		}
		if fault != nil {
			err = fault
		}
	}()
	return run()
}
