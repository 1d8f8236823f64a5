//go:build wasip1

// Package wire turns what the bindings have into what the SDK has, and back.
package wire

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"wasaba.dev/plugin/internal/bridge"
	"wasaba.dev/plugin/internal/bytecodealliance/wit/runtime"
	witTypes "wasaba.dev/plugin/internal/bytecodealliance/wit/types"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_types"
)

// Pairs is a list of names and values.
type Pairs = []witTypes.Tuple2[string, string]

var calling sync.Mutex

// Enter begins a call of a capability whose result has texts or lists. Other goroutines wait until it ends.
func Enter() {
	calling.Lock()
	runtime.BeginImport()
}

// Leave ends it: the result must have been copied.
func Leave() {
	runtime.EndImport()
	calling.Unlock()
}

// Value returns what a capability returned.
func Value[T any](result witTypes.Result[T, wit.Error]) (value T, err error) {
	if result.IsErr() {
		return value, Error(result.Err())
	}
	return result.Ok(), nil
}

// Bytes returns a copy of the bytes that a capability returned.
func Bytes(result witTypes.Result[[]byte, wit.Error]) ([]byte, error) {
	value, err := Value(result)
	return bytes.Clone(value), err
}

// Error makes a *plugin.Error.
func Error(from wit.Error) error {
	made := bridge.Error{Kind: strings.Clone(from.Kind), Message: strings.Clone(from.Message)}
	if from.RetryAfterMs.IsSome() {
		made.RetryAfter = time.Duration(from.RetryAfterMs.Some()) * time.Millisecond
	}
	for _, pair := range from.Attributes {
		made.Attributes = append(made.Attributes, [2]string{strings.Clone(pair.F0), strings.Clone(pair.F1)})
	}
	return bridge.NewError(made)
}

// ErrorOf makes the contract's error of any other.
func ErrorOf(err error) wit.Error {
	parts := bridge.ErrorParts(err)
	made := wit.Error{Kind: parts.Kind, Message: parts.Message, RetryAfterMs: Millis(parts.RetryAfter), Attributes: PairsOf(parts.Attributes)}
	return made
}

// Millis is none for zero; less than one is rounded up to one.
func Millis(duration time.Duration) witTypes.Option[uint64] {
	if duration <= 0 {
		return witTypes.None[uint64]()
	}
	return witTypes.Some(uint64(max(duration.Milliseconds(), 1)))
}

// PairsOf makes a list of names and values.
func PairsOf(from [][2]string) Pairs {
	pairs := make(Pairs, len(from))
	for index, pair := range from {
		pairs[index] = witTypes.Tuple2[string, string]{F0: pair[0], F1: pair[1]}
	}
	return pairs
}

// Problem makes the contract's.
func Problem(target string, err error) wit.Problem {
	return wit.Problem{Target: target, Error: ErrorOf(err)}
}

// Settings makes plugin.Settings.
func Settings(from wit.Settings) any {
	values := make([]bridge.Value, len(from))
	for index, pair := range from {
		values[index].Key = pair.F0
		if pair.F1.Tag() == wit.SettingValue_Secret {
			values[index].Secret = pair.F1.Secret()
		} else {
			values[index].Text = pair.F1.Text()
		}
	}
	return bridge.NewSettings(values)
}

// Secret is the handle of a *plugin.Secret.
func Secret(secret any) *wit.Secret { return bridge.SecretOf(secret).(*wit.Secret) }
