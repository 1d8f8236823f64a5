// Package tcp is byte streams to what the operator granted: TCP, unix sockets, and TLS on top of either, which the agent speaks.
//
// A [Conn] is a net.Conn, and [DialContext] is what many libraries take in place of their own.
package tcp

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/place"
)

// Conn is a connection. The agent closes what is still open when a call ends.
type Conn struct {
	wire    connection
	address address
	timeout time.Duration
	// read and write are deadlines; the zero time is none.
	read, write time.Time
}

var _ net.Conn = (*Conn)(nil)

// address is "db:5432", or "unix:" and a path.
type address string

func (a address) Network() string {
	if strings.HasPrefix(string(a), "unix:") {
		return "unix"
	}
	return "tcp"
}

func (a address) String() string { return strings.TrimPrefix(string(a), "unix:") }

// Connect connects to a host, which may be a name or an address, and a port.
func Connect(host string, port uint16) (*Conn, error) { return ConnectWithin(host, port, 0) }

// ConnectWithin connects with a timeout. Zero means none but the call's own.
func ConnectWithin(host string, port uint16, timeout time.Duration) (*Conn, error) {
	wire, err := connect(host, port, timeout)
	return connected(wire, err, address(host+":"+strconv.Itoa(int(port))))
}

// ConnectUnix connects to the unix socket of this path.
func ConnectUnix(path string) (*Conn, error) {
	wire, err := connectUnix(path, 0)
	return connected(wire, err, address("unix:"+path))
}

// DialContext connects to an address of the network "tcp" or "unix", for libraries that ask for such a function. Of the context only
// the deadline counts.
func DialContext(ctx context.Context, network, target string) (net.Conn, error) {
	var timeout time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(deadline), time.Millisecond)
	}
	switch network {
	case "tcp", "tcp4", "tcp6":
		host, port, err := net.SplitHostPort(target)
		if err != nil {
			return nil, plugin.Invalid.Errorf("%w", err)
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, plugin.Invalid.Errorf("%q has no valid port", target)
		}
		return dialled(ConnectWithin(host, uint16(number), timeout))
	case "unix":
		wire, err := connectUnix(target, timeout)
		return dialled(connected(wire, err, address("unix:"+target)))
	}
	return nil, plugin.Unsupported.Errorf("there is no network %q: use tcp or unix", network)
}

// dialled does not make an interface of a nil pointer.
func dialled(conn *Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func connected(wire connection, err error, address address) (*Conn, error) {
	if err != nil {
		return nil, named(address, err)
	}
	return &Conn{wire: wire, address: address}, nil
}

// named makes an error say which server it is about, if it does not.
func named(address address, err error) error {
	own, ok := err.(*plugin.Error)
	if !ok || own.Kind == plugin.Denied || strings.Contains(own.Message, address.String()) {
		return err
	}
	own.Message = address.String() + ": " + own.Message
	return own
}

// Read waits for data. It is io.EOF at the end of the stream.
func (c *Conn) Read(into []byte) (int, error) {
	if len(into) == 0 {
		return 0, nil
	}
	if err := c.before(c.read); err != nil {
		return 0, err
	}
	bytes, err := c.wire.receive(min(len(into), 65536))
	if err != nil {
		return 0, named(c.address, err)
	}
	if len(bytes) == 0 {
		return 0, io.EOF
	}
	return copy(into, bytes), nil
}

// Write sends all of it.
func (c *Conn) Write(bytes []byte) (int, error) {
	err := c.before(c.write)
	if err == nil {
		err = c.wire.send(bytes)
	}
	if err != nil {
		return 0, named(c.address, err)
	}
	return len(bytes), nil
}

// WriteSecret sends prefix, the secret and suffix.
func (c *Conn) WriteSecret(prefix string, secret *plugin.Secret, suffix string) error {
	if secret == nil {
		return plugin.Misconfigured.Errorf("%sthe secret is not set", place.Of())
	}
	if err := c.before(c.write); err != nil {
		return err
	}
	if err := c.wire.sendSecret([]byte(prefix), secret, []byte(suffix)); err != nil {
		return named(c.address, err)
	}
	return nil
}

// CloseWrite closes the writing side; reading still works.
func (c *Conn) CloseWrite() error { return c.wire.finish() }

// Close closes it.
func (c *Conn) Close() error {
	c.wire.close()
	return nil
}

// IsLocal is whether the peer is on this machine: a unix socket, or a loopback address.
func (c *Conn) IsLocal() bool { return c.wire.isLocal() }

// LocalAddr is not known to the plugin.
func (c *Conn) LocalAddr() net.Addr { return address("plugin") }

// RemoteAddr is what was connected to.
func (c *Conn) RemoteAddr() net.Addr { return c.address }

// SetTimeout is for each operation from now on. Zero, as at first, means none but the call's own.
func (c *Conn) SetTimeout(timeout time.Duration) {
	c.timeout = timeout
	c.wire.setTimeout(timeout)
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(when time.Time) error {
	c.read, c.write = when, when
	return nil
}

// SetReadDeadline makes reading fail after that time; the zero time is never.
func (c *Conn) SetReadDeadline(when time.Time) error {
	c.read = when
	return nil
}

// SetWriteDeadline makes writing fail after that time; the zero time is never.
func (c *Conn) SetWriteDeadline(when time.Time) error {
	c.write = when
	return nil
}

// before sets the time that is left for an operation.
func (c *Conn) before(deadline time.Time) error {
	if deadline.IsZero() {
		c.wire.setTimeout(c.timeout)
		return nil
	}
	left := time.Until(deadline)
	if left <= 0 {
		return plugin.Timeout.Errorf("%s: the deadline has passed", c.address)
	}
	if c.timeout > 0 {
		left = min(left, c.timeout)
	}
	c.wire.setTimeout(left)
	return nil
}

// TLSOptions is how TLS begins.
type TLSOptions struct {
	// ServerName is the name on the certificate, if it is not the host that was connected to.
	ServerName string
	// ALPN are the protocols to offer, the best first.
	ALPN []string
}

// TLSInfo is what the peers agreed on.
type TLSInfo struct {
	// Protocol is "TLSv1.3" or "TLSv1.2".
	Protocol string
	// ALPN is the protocol that the peer chose, or "".
	ALPN string
	// Verified is what of the certificate was verified: "encrypt", nothing; "ca", who signed it; "full", also the name.
	Verified string
	// Chain are the peer's certificates in DER, its own first.
	Chain [][]byte
}

// TLSError is why TLS did not begin. The connection is closed.
type TLSError struct {
	// Err is the reason, a [plugin.Error].
	Err error
	// Chain are the peer's certificates in DER, its own first, also where they are not trusted.
	Chain [][]byte
}

// Error returns the reason.
func (e *TLSError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *TLSError) Unwrap() error { return e.Err }

// StartTLS upgrades to TLS. The agent verifies the certificate as the operator wants it. Its error is a [TLSError].
func (c *Conn) StartTLS(options TLSOptions) (TLSInfo, error) {
	if err := c.before(c.write); err != nil {
		return TLSInfo{}, &TLSError{Err: err}
	}
	return c.wire.startTLS(options)
}

// millis is a timeout in milliseconds: zero means none; less than one is rounded up to one.
func millis(timeout time.Duration) (uint64, bool) {
	return uint64(max(timeout.Milliseconds(), 1)), timeout > 0
}
