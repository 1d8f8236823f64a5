// Package setting has the kinds of settings. The contract documents what each means and grants.
package setting

import "wasaba.dev/plugin"

// Text is any text.
func Text(key string) plugin.Setting { return plugin.NewSetting("text", key) }

// Secret is any text that the agent never shows; the plugin gets a [plugin.Secret]. It has no default.
func Secret(key string) plugin.Setting { return plugin.NewSetting("secret", key) }

// Integer is a whole number that fits int64.
func Integer(key string) plugin.Setting { return plugin.NewSetting("integer", key) }

// Number is a decimal number.
func Number(key string) plugin.Setting { return plugin.NewSetting("number", key) }

// Boolean is true or false.
func Boolean(key string) plugin.Setting { return plugin.NewSetting("boolean", key) }

// Duration is a length of time such as "500ms", "10s", "5m".
func Duration(key string) plugin.Setting { return plugin.NewSetting("duration", key) }

// URL is an absolute http or https URL, and the grant to fetch from there.
func URL(key string) plugin.Setting { return plugin.NewSetting("url", key) }

// Endpoint is a host and a port, "db:5432", and the grant to connect there.
func Endpoint(key string) plugin.Setting { return plugin.NewSetting("endpoint", key) }

// Host is a host's name or address; together with the [Port] that is of it, a grant.
func Host(key string) plugin.Setting { return plugin.NewSetting("host", key) }

// Port is a TCP port; together with the host that it is of ([plugin.Setting.OfHost]), a grant.
func Port(key string) plugin.Setting { return plugin.NewSetting("port", key) }

// UnixSocket is the absolute path of a unix socket, and the grant to connect to it.
func UnixSocket(key string) plugin.Setting { return plugin.NewSetting("unix-socket", key) }

// File is the absolute path of a file, and the grant to read it.
func File(key string) plugin.Setting { return plugin.NewSetting("file", key) }

// TLSSkipVerify is true or false. With true the agent accepts any certificate on this instance's connections.
func TLSSkipVerify(key string) plugin.Setting { return plugin.NewSetting("tls-skip-verify", key) }

// TLSMode is how a connection uses TLS: "off", "encrypt", "ca" or "full", and aliases of them ([plugin.Setting.Alias]).
func TLSMode(key string) plugin.Setting { return plugin.NewSetting("tls-mode", key) }
