//go:build !wasip1

package http

import (
	"encoding/base64"
	"strings"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/bridge"
	"wasaba.dev/plugin/internal/native"
)

func (r *Request) native() native.Request {
	request := native.Request{Method: r.method, URL: r.url, Body: r.body}
	set := func(name, value string) {
		request.Headers = append(request.Headers, [2]string{strings.ToLower(name), value})
	}
	for _, header := range r.headers {
		var hidden string
		if header.secret != nil {
			hidden = string(bridge.SecretOf(header.secret).(native.Secret))
		}
		switch header.kind {
		case text, secret:
			set(header.name, header.value+hidden)
		case basic:
			set("authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(header.name+":"+hidden)))
		case lines:
			for line := range strings.Lines(hidden) {
				if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
					set(name, strings.TrimSpace(value))
				}
			}
		}
	}
	return request
}

func (r *Request) hasHeader(name string) (bool, error) {
	for _, header := range r.native().Headers {
		if strings.EqualFold(header[0], name) {
			return true, nil
		}
	}
	return false, nil
}

func (r *Request) send() (*Response, error) {
	if native.Current == nil {
		return nil, plugin.Failed.Errorf("%w", native.ErrNone)
	}
	response, err := native.Current.Send(r.native())
	if err != nil {
		return nil, err
	}
	return &Response{Status: int(response.Status), Headers: response.Headers, Body: response.Body}, nil
}
