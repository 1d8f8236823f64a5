//go:build !wasip1

package tcp

import (
	"fmt"
	"slices"
	"time"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/bridge"
	"wasaba.dev/plugin/internal/native"
)

type connection struct{ native.Connection }

func connect(host string, port uint16, _ time.Duration) (connection, error) {
	return open(fmt.Sprintf("%s:%d", host, port))
}

func connectUnix(path string, _ time.Duration) (connection, error) { return open("unix:" + path) }

func open(address string) (connection, error) {
	if native.Current == nil {
		return connection{}, plugin.Failed.Errorf("%w", native.ErrNone)
	}
	opened, err := native.Current.Connect(address)
	return connection{opened}, err
}

func (c connection) receive(maxBytes int) ([]byte, error) { return c.Read(maxBytes) }
func (c connection) send(bytes []byte) error              { return c.Write(bytes) }

func (c connection) sendSecret(prefix []byte, secret *plugin.Secret, suffix []byte) error {
	return c.Write(slices.Concat(prefix, []byte(bridge.SecretOf(secret).(native.Secret)), suffix))
}

func (c connection) finish() error            { return c.Finish() }
func (c connection) close()                   { c.Close() }
func (c connection) isLocal() bool            { return true }
func (c connection) setTimeout(time.Duration) {}

// startTLS continues without TLS: a test's conversation is in plain text.
func (c connection) startTLS(options TLSOptions) (TLSInfo, error) {
	info := TLSInfo{Protocol: "TLSv1.3", Verified: "full"}
	if len(options.ALPN) > 0 {
		info.ALPN = options.ALPN[0]
	}
	return info, nil
}
