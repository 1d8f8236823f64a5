package plugin

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"wasaba.dev/plugin/internal/bridge"
)

// Settings are those of one instance: what the operator wrote, with the defaults filled in. The agent has validated each value for its
// kind.
//
// Keep each setting in a variable, which goes into Plugin.Settings and into these methods. One that the plugin does not declare is a
// mistake of its author, and one that is not set, where the plugin needs it, of the operator. The methods panic with such an error; it
// becomes the result of the call.
type Settings struct{ values []bridge.Value }

func init() {
	bridge.NewSettings = func(values []bridge.Value) any { return Settings{values} }
}

// key panics unless the plugin declares this setting, and reads a secret with Secret or Secrets and nothing else with them.
func (Settings) key(setting Setting, asSecret bool) string {
	plugin := Exported()
	keys := make([]string, 0, len(plugin.Settings))
	for _, declared := range plugin.Settings {
		if declared.declared.Key == setting.declared.Key {
			switch isSecret := declared.declared.Kind == "secret"; {
			case isSecret && !asSecret:
				mistaken("the setting `%s` is a secret, whose text the plugin does not get: use settings.Secret", setting.declared.Key)
			case !isSecret && asSecret:
				mistaken("the setting `%s` is not a secret: use settings.Text, or declare it with setting.Secret", setting.declared.Key)
			}
			return setting.declared.Key
		}
		keys = append(keys, declared.declared.Key)
	}
	others := strings.Join(keys, ", ")
	mistaken("the plugin does not declare the setting `%s`, only: %s", setting.declared.Key, others)
	return ""
}

// mistaken panics with what the plugin's author has to mend.
func mistaken(format string, arguments ...any) {
	panic(bridge.Panicked{Err: bridge.Mistake(format, arguments...)})
}

func misconfigured(format string, arguments ...any) {
	panic(bridge.Panicked{Err: Misconfigured.Errorf(format, arguments...)})
}

// Get returns the setting's value and whether it is set. For a secret, use [Settings.Secret].
func (s Settings) Get(setting Setting) (string, bool) {
	key := s.key(setting, false)
	for _, value := range slices.Backward(s.values) {
		if value.Key == key && value.Secret == nil {
			return value.Text, true
		}
	}
	return "", false
}

// Text returns the setting's value, which is required or has a default. For one that may be missing, use [Settings.Get], and for a
// secret [Settings.Secret].
func (s Settings) Text(setting Setting) string {
	value, ok := s.Get(setting)
	if !ok {
		misconfigured("`%s` is not set", setting.declared.Key)
	}
	return value
}

// All returns each value of a repeatable setting, in the operator's order.
func (s Settings) All(setting Setting) []string {
	key := s.key(setting, false)
	var values []string
	for _, value := range s.values {
		if value.Key == key && value.Secret == nil {
			values = append(values, value.Text)
		}
	}
	return values
}

// Secret returns the secret, or nil if it is not set or empty.
func (s Settings) Secret(setting Setting) *Secret {
	secrets := s.Secrets(setting)
	if len(secrets) == 0 || secrets[len(secrets)-1].Length() == 0 {
		return nil
	}
	return secrets[len(secrets)-1]
}

// Secrets returns each value of a repeatable secret, in the operator's order.
func (s Settings) Secrets(setting Setting) []*Secret {
	key := s.key(setting, true)
	var secrets []*Secret
	for _, value := range s.values {
		if value.Key == key && value.Secret != nil {
			secrets = append(secrets, &Secret{value.Secret})
		}
	}
	return secrets
}

// Integer returns the value of a setting that is a whole number.
func (s Settings) Integer(setting Setting) int64 { return parsed(s, setting, parseInteger) }

// Number returns the value of a setting that is a number.
func (s Settings) Number(setting Setting) float64 { return parsed(s, setting, parseNumber) }

// Boolean returns the value of a setting that is true or false.
func (s Settings) Boolean(setting Setting) bool { return parsed(s, setting, strconv.ParseBool) }

// Port returns the value of a setting that is a port.
func (s Settings) Port(setting Setting) uint16 { return parsed(s, setting, parsePort) }

// Duration returns the value of a setting that is a length of time.
func (s Settings) Duration(setting Setting) time.Duration {
	return parsed(s, setting, time.ParseDuration)
}

func parseInteger(text string) (int64, error)  { return strconv.ParseInt(text, 10, 64) }
func parseNumber(text string) (float64, error) { return strconv.ParseFloat(text, 64) }

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	return uint16(port), err
}

func parsed[T any](s Settings, setting Setting, parse func(string) (T, error)) T {
	text := s.Text(setting)
	value, err := parse(text)
	if err != nil {
		misconfigured("invalid value %q in `%s`", text, setting.declared.Key)
	}
	return value
}

// Endpoint is a host and a port.
type Endpoint struct {
	Host string
	Port uint16
}

// String returns "db:5432".
func (e Endpoint) String() string { return e.Host + ":" + strconv.Itoa(int(e.Port)) }

// Endpoints returns the host and port of each value of a setting of kind endpoint.
func (s Settings) Endpoints(setting Setting) []Endpoint {
	var endpoints []Endpoint
	for _, value := range s.All(setting) {
		colon := strings.LastIndexByte(value, ':')
		if colon < 0 {
			misconfigured("invalid value %q in `%s`: write a host and a port, db:5432", value, setting.declared.Key)
		}
		port, err := parsePort(value[colon+1:])
		if err != nil {
			misconfigured("invalid port in the value %q of `%s`", value, setting.declared.Key)
		}
		endpoints = append(endpoints, Endpoint{value[:colon], port})
	}
	return endpoints
}

// OneOf returns the setting's value, which must be one of those that are valid.
func (s Settings) OneOf(setting Setting, valid ...string) string {
	value := s.Text(setting)
	known(setting.declared.Key, value, valid)
	return value
}

// SomeOf returns the values of a repeatable setting, each of which must be one of those that are valid.
func (s Settings) SomeOf(setting Setting, valid ...string) []string {
	values := s.All(setting)
	for _, value := range values {
		known(setting.declared.Key, value, valid)
	}
	return values
}

func known(key, value string, valid []string) {
	if !slices.Contains(valid, value) {
		misconfigured("unknown value %q in `%s`; valid: %s", value, key, strings.Join(valid, ", "))
	}
}
