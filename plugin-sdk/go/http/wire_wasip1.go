package http

import (
	"strings"

	witTypes "wasaba.dev/plugin/internal/bytecodealliance/wit/types"
	"wasaba.dev/plugin/internal/wire"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_http"
)

// built is the request for the agent.
func (r *Request) built() (*wit.Request, error) {
	request := wit.MakeRequest(r.method, r.url)
	for _, header := range r.headers {
		var result witTypes.Result[witTypes.Unit, wit.Error]
		switch header.kind {
		case text:
			result = request.SetHeader(header.name, header.value)
		case secret:
			result = request.SetHeaderSecret(header.name, header.value, wire.Secret(header.secret))
		case basic:
			result = request.SetBasicAuth(header.name, wire.Secret(header.secret))
		case lines:
			result = request.SetHeaderLines(wire.Secret(header.secret))
		}
		if _, err := wire.Value(result); err != nil {
			request.Drop()
			return nil, err
		}
	}
	if r.hasBody {
		request.SetBody(r.body)
	}
	return request, nil
}

func (r *Request) hasHeader(name string) (bool, error) {
	wire.Enter()
	defer wire.Leave()
	request, err := r.built()
	if err != nil {
		return false, err
	}
	defer request.Drop()
	return request.HasHeader(name), nil
}

func (r *Request) send() (*Response, error) {
	wire.Enter()
	defer wire.Leave()
	request, err := r.built()
	if err != nil {
		return nil, err
	}
	defer request.Drop()
	got, err := wire.Value(wit.Send(request))
	if err != nil {
		return nil, err
	}
	defer got.Drop()
	response := &Response{Status: int(got.Status())}
	for _, header := range got.Headers() {
		response.Headers = append(response.Headers, [2]string{strings.Clone(header.F0), string(header.F1)})
	}
	response.Body, err = wire.Bytes(got.Body())
	return response, err
}
