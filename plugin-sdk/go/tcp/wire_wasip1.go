package tcp

import (
	"bytes"
	"strings"
	"time"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/wire"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_tcp"
)

type connection struct{ *wit.Connection }

func connect(host string, port uint16, timeout time.Duration) (connection, error) {
	wire.Enter()
	defer wire.Leave()
	opened, err := wire.Value(wit.ConnectionConnect(host, port, wire.Millis(timeout)))
	return connection{opened}, err
}

func connectUnix(path string, timeout time.Duration) (connection, error) {
	wire.Enter()
	defer wire.Leave()
	opened, err := wire.Value(wit.ConnectionConnectUnix(path, wire.Millis(timeout)))
	return connection{opened}, err
}

func (c connection) receive(maxBytes int) ([]byte, error) {
	wire.Enter()
	defer wire.Leave()
	return wire.Bytes(c.Read(uint32(maxBytes)))
}

func (c connection) send(bytes []byte) error {
	wire.Enter()
	defer wire.Leave()
	_, err := wire.Value(c.Write(bytes))
	return err
}

func (c connection) sendSecret(prefix []byte, secret *plugin.Secret, suffix []byte) error {
	wire.Enter()
	defer wire.Leave()
	_, err := wire.Value(c.WriteSecret(prefix, wire.Secret(secret), suffix))
	return err
}

func (c connection) finish() error {
	wire.Enter()
	defer wire.Leave()
	_, err := wire.Value(c.Finish())
	return err
}

func (c connection) close()                           { c.Drop() }
func (c connection) isLocal() bool                    { return c.IsLocal() }
func (c connection) setTimeout(timeout time.Duration) { c.SetTimeout(wire.Millis(timeout)) }

func (c connection) startTLS(options TLSOptions) (TLSInfo, error) {
	wire.Enter()
	defer wire.Leave()
	wanted := wit.MakeTlsOptions()
	defer wanted.Drop()
	if options.ServerName != "" {
		wanted.SetServerName(options.ServerName)
	}
	if len(options.ALPN) > 0 {
		wanted.SetAlpn(options.ALPN)
	}
	result := c.StartTls(wanted)
	if result.IsErr() {
		failure := result.Err()
		return TLSInfo{}, &TLSError{Err: wire.Error(failure.Error), Chain: cloned(failure.Chain)}
	}
	info := result.Ok()
	return TLSInfo{
		Protocol: strings.Clone(info.Protocol), ALPN: strings.Clone(info.Alpn.SomeOr("")), Verified: strings.Clone(info.Verified),
		Chain: cloned(info.Chain),
	}, nil
}

func cloned(chain [][]byte) [][]byte {
	for index := range chain {
		chain[index] = bytes.Clone(chain[index])
	}
	return chain
}
