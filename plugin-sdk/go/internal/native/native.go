// Package native is what stands for the agent where there is none: in tests, which run as native programs.
package native

import (
	"errors"
	"time"
)

// Host answers what capabilities ask.
type Host interface {
	Send(Request) (Response, error)
	// Connect gets "db:5432" or "unix:/run/db.sock".
	Connect(address string) (Connection, error)
	Open(path string) ([]byte, error)
	Get(key string) ([]byte, bool)
	Set(key string, value []byte, time time.Duration) error
	Delete(key string)
	Keys(prefix string) []string
	Log(level, line string)
	Minute() uint64
	Remaining() time.Duration
	Limit(name string) (uint64, bool)
}

// Request is a request with the texts of its secrets.
type Request struct {
	Method, URL string
	Headers     [][2]string
	Body        []byte
}

// Response is the answer to one.
type Response struct {
	Status  uint16
	Headers [][2]string
	Body    []byte
}

// Connection is a conversation with a server.
type Connection interface {
	Read(maxBytes int) ([]byte, error)
	Write([]byte) error
	Finish() error
	Close()
}

// Current is the host of the test that runs.
var Current Host

// ErrNone says that there is none.
var ErrNone = errors.New("there is no agent: in a test, make one with plugintest.New(t)")

// Secret is the text of one.
type Secret string
