package plugin

import (
	"errors"
	"fmt"
	"os"
	"time"

	"wasaba.dev/plugin/internal/bridge"
)

// Kind says who has to act on an error. It is an error itself, for errors.Is(err, plugin.Unreachable).
type Kind string

const (
	// Misconfigured: the settings cannot work; the operator has to fix them.
	Misconfigured Kind = "misconfigured"
	// Unauthorized: the target refuses the user, the password or the certificate; the operator has to fix them.
	Unauthorized Kind = "unauthorized"
	// Unreachable: the target does not answer; it is down, or the network is.
	Unreachable Kind = "unreachable"
	// Timeout: the target does not answer in time.
	Timeout Kind = "timeout"
	// Denied: the agent refused a capability; a grant is missing. Pass on what the capability said.
	Denied Kind = "denied"
	// Failed: anything else; the target's answer is unusable.
	Failed Kind = "failed"
	// Unsupported: the target is too old, too new, or another thing than the plugin knows.
	Unsupported Kind = "unsupported"
	// Invalid: a request that makes no sense; a fault of the plugin, or a setting that it passed on unchecked.
	Invalid Kind = "invalid"
	// TooLarge: larger than the agent allows.
	TooLarge Kind = "too-large"
	// TooCostly: more work than the agent does for a call.
	TooCostly Kind = "too-costly"
	// Full: no room for what should be stored.
	Full Kind = "full"
)

// Error returns the word.
func (k Kind) Error() string { return string(k) }

// Errorf returns an error of this kind. The text is for the operator: it names the thing and, if possible, the cure, as a lower-case
// fragment. %w keeps what it wraps.
func (k Kind) Errorf(format string, arguments ...any) *Error {
	text := fmt.Errorf(format, arguments...)
	return &Error{Kind: k, Message: text.Error(), cause: errors.Unwrap(text)}
}

// Busy returns an error that says that the target asked to be left alone for this long: the agent skips the plugin until then.
func Busy(after time.Duration, format string, arguments ...any) *Error {
	busy := Unreachable.Errorf(format, arguments...)
	busy.RetryAfter = after
	return busy
}

// Error is why something failed: what a plugin returns, and what a capability returns to it. An error of any other type that a plugin
// returns is [Failed]; one that wraps an *Error is of its kind.
type Error struct {
	Kind    Kind
	Message string
	// RetryAfter is how long the target asked to be left alone, or 0.
	RetryAfter time.Duration
	// Attributes are facts for code to decide by: "tls" is "certificate", "alert" or "not-tls".
	Attributes []Attribute
	cause      error
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns what it was made of.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is work with a [Kind], and with os.ErrDeadlineExceeded for [Timeout].
func (e *Error) Is(target error) bool {
	if kind, ok := target.(Kind); ok {
		return e.Kind == kind
	}
	return e.Kind == Timeout && target == os.ErrDeadlineExceeded
}

// Timeout makes it an error as net.Conn's are.
func (e *Error) Timeout() bool { return e.Kind == Timeout }

// Temporary makes it a net.Error.
func (e *Error) Temporary() bool { return false }

// TLS is what went wrong with TLS, if that is the reason: "certificate", "alert", "not-tls", or "".
func (e *Error) TLS() string {
	for _, attribute := range e.Attributes {
		if attribute.Key == "tls" {
			return attribute.Value
		}
	}
	return ""
}

// cure is what the plugin's author can do about an error of package net, which has no network in a component. It is known by its type's
// name, since that package would make each component larger.
func cure(err error) string {
	for ; err != nil; err = errors.Unwrap(err) {
		var own *Error
		if fmt.Sprintf("%T", err) == "*net.OpError" && !errors.As(err, &own) {
			return "; net and net/http have no network in a plugin: use transport.Client() or tcp.DialContext of the SDK"
		}
	}
	return ""
}

func init() {
	bridge.NewError = func(parts bridge.Error) error {
		made := &Error{Kind: Kind(parts.Kind), Message: parts.Message, RetryAfter: parts.RetryAfter}
		for _, pair := range parts.Attributes {
			made.Attributes = append(made.Attributes, Attribute{pair[0], pair[1]})
		}
		return made
	}
	bridge.ErrorParts = func(err error) bridge.Error {
		message := err.Error() + cure(err)
		var own *Error
		if !errors.As(err, &own) {
			return bridge.Error{Kind: string(Failed), Message: message}
		}
		parts := bridge.Error{Kind: string(own.Kind), Message: message, RetryAfter: own.RetryAfter}
		for _, attribute := range own.Attributes {
			parts.Attributes = append(parts.Attributes, [2]string{attribute.Key, attribute.Value})
		}
		return parts
	}
}
