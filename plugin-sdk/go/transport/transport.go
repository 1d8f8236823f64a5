// Package transport makes net/http, and libraries that take an http.RoundTripper, ask through the agent.
//
// It is apart from package http since net/http makes a component some 7 MB larger.
package transport

import (
	"bytes"
	"fmt"
	"io"
	nethttp "net/http"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/http"
)

// Transport is an http.RoundTripper. Its zero value is ready to use.
type Transport struct {
	// Secret, if it is not nil, is sent with each request in the header Header, after Prefix.
	Secret         *plugin.Secret
	Header, Prefix string
}

// Client returns a client whose requests the agent sends.
func Client() *nethttp.Client { return &nethttp.Client{Transport: Transport{}} }

// connection has what the agent sets itself.
var connection = map[string]bool{"Connection": true, "Content-Length": true, "Transfer-Encoding": true, "Accept-Encoding": true}

// RoundTrip sends one request and waits for the whole response.
func (t Transport) RoundTrip(request *nethttp.Request) (*nethttp.Response, error) {
	sent := http.New(request.Method, request.URL.String())
	for name, values := range request.Header {
		if !connection[name] {
			for _, value := range values {
				sent.Header(name, value)
			}
		}
	}
	if t.Secret != nil {
		sent.HeaderSecret(t.Header, t.Prefix, t.Secret)
	}
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		request.Body.Close()
		if err != nil {
			return nil, err
		}
		sent.Body(body)
	}
	got, err := sent.Send()
	if err != nil {
		return nil, err
	}
	response := &nethttp.Response{
		Status:     fmt.Sprintf("%d %s", got.Status, nethttp.StatusText(got.Status)),
		StatusCode: got.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: nethttp.Header{},
		Body: io.NopCloser(bytes.NewReader(got.Body)), ContentLength: int64(len(got.Body)), Request: request,
	}
	for _, header := range got.Headers {
		response.Header.Add(header[0], header[1])
	}
	return response, nil
}
