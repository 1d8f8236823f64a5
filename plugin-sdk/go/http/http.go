// Package http is requests to what the operator granted. The agent speaks HTTP and TLS. It does not follow redirects; [Request.Follow]
// does. An http.RoundTripper for libraries is in wasaba.dev/plugin/transport.
package http

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/bridge"
)

// Request is a request that has not been sent yet.
type Request struct {
	method, url string
	headers     []header
	body        []byte
	hasBody     bool
	redirects   int
}

// header is a header, or several.
type header struct {
	kind        headerKind
	name, value string
	secret      *plugin.Secret
}

type headerKind uint8

const (
	text headerKind = iota
	// secret: the name, what stands before the secret, the secret.
	secret
	// basic: the user, and the password.
	basic
	lines
)

// Get returns a GET request for url.
func Get(url string) *Request { return New("GET", url) }

// Post returns a POST request for url.
func Post(url string, body []byte) *Request { return New("POST", url).Body(body) }

// New returns a request with any method.
func New(method, url string) *Request { return &Request{method: method, url: url} }

// Header sets a header; of those with one name the last counts. Headers of the connection itself are refused, and "host" is unless the
// operator's table has it as "virtual_host". A secret goes into a header with [Request.HeaderSecret]; as text it is "[secret]", which
// is a mistake here.
func (r *Request) Header(name, value string) *Request {
	if strings.Contains(value, bridge.Hidden) {
		bridge.Mistake("the header `%s` would have %s in place of the secret's text: use HeaderSecret(name, prefix, secret)", name, bridge.Hidden)
	}
	r.headers = append(r.headers, header{kind: text, name: name, value: value})
	return r
}

// HeaderSecret sets a header to prefix and a secret: HeaderSecret("authorization", "Bearer ", token). The prefix may be "". A nil secret
// sets nothing.
func (r *Request) HeaderSecret(name, prefix string, value *plugin.Secret) *Request {
	return r.secret(header{kind: secret, name: name, value: prefix, secret: value})
}

// BasicAuth sets the header "authorization" for this user and password. A nil password sets nothing.
func (r *Request) BasicAuth(user string, password *plugin.Secret) *Request {
	return r.secret(header{kind: basic, name: user, secret: password})
}

// HeaderLines sets the headers in a secret that has lines of "Name: value". A nil secret sets nothing.
func (r *Request) HeaderLines(value *plugin.Secret) *Request {
	return r.secret(header{kind: lines, secret: value})
}

func (r *Request) secret(header header) *Request {
	if header.secret != nil {
		r.headers = append(r.headers, header)
	}
	return r
}

// Body sets the body.
func (r *Request) Body(body []byte) *Request {
	r.body, r.hasBody = body, true
	return r
}

// Follow makes it follow redirects, limit at most: with GET, without the body, and to another server without secrets and without the
// headers "authorization", "cookie" and "host", which were meant for the first. Each redirect needs its own grant.
func (r *Request) Follow(limit int) *Request {
	r.redirects = limit
	return r
}

// HasHeader is whether it will be sent with a header of this name.
func (r *Request) HasHeader(name string) (bool, error) { return r.hasHeader(name) }

// Send sends it and waits for the whole response, whatever its status.
func (r *Request) Send() (*Response, error) {
	request := *r
	for followed := 0; ; followed++ {
		response, err := request.send()
		if err != nil {
			return nil, named(request.url, err)
		}
		response.URL = request.url
		if r.redirects == 0 || !isRedirect(response.Status) {
			return response, nil
		}
		target := redirect(request.url, response.Header("location"))
		switch {
		case target == "":
			return response, nil
		case followed == r.redirects:
			return nil, plugin.Failed.Errorf("%s: more than %d redirects", page(r.url), r.redirects)
		case origin(target) != origin(request.url):
			request.headers = public(request.headers)
		}
		request.method, request.url, request.body, request.hasBody = "GET", target, nil, false
	}
}

// OK sends it; a response whose status is not 2xx is an error that names the page.
func (r *Request) OK() (*Response, error) {
	response, err := r.Send()
	if err != nil {
		return nil, err
	}
	return response, response.OK()
}

// Text sends it and returns the body of a response whose status is 2xx.
func (r *Request) Text() (string, error) {
	response, err := r.OK()
	if err != nil {
		return "", err
	}
	return response.Text()
}

// JSON sends it and reads the body of a response whose status is 2xx into the value that into points to.
func (r *Request) JSON(into any) error {
	response, err := r.OK()
	if err != nil {
		return err
	}
	return response.JSON(into)
}

// Response is a server's response.
type Response struct {
	// URL is the page that answered.
	URL    string
	Status int
	// Headers have names in lower case and values as received, in the server's order.
	Headers [][2]string
	// Body is the whole body.
	Body []byte
}

// Header returns the first header of this name, in any case, or "".
func (r *Response) Header(name string) string {
	for _, header := range r.Headers {
		if strings.EqualFold(header[0], name) {
			return header[1]
		}
	}
	return ""
}

// OK returns an error that names the page unless the status is 2xx.
func (r *Response) OK() error {
	kind := plugin.Failed
	switch r.Status {
	case 401, 403:
		kind = plugin.Unauthorized
	case 429, 503:
		if seconds, err := strconv.ParseUint(r.Header("retry-after"), 10, 32); err == nil {
			return plugin.Busy(time.Duration(seconds)*time.Second, "%s answers with status %d", page(r.URL), r.Status)
		}
	}
	if r.Status/100 == 2 {
		return nil
	}
	return kind.Errorf("%s answers with status %d", page(r.URL), r.Status)
}

// Text returns the body.
func (r *Response) Text() (string, error) {
	if !utf8.Valid(r.Body) {
		return "", plugin.Failed.Errorf("%s: the response is not UTF-8 text", page(r.URL))
	}
	return string(r.Body), nil
}

// JSON reads the body into the value that into points to, as encoding/json does.
func (r *Response) JSON(into any) error {
	if err := json.Unmarshal(r.Body, into); err != nil {
		return plugin.Failed.Errorf("%s: the response is not as expected: %w", page(r.URL), err)
	}
	return nil
}

// named makes an error say which page it is about, if it does not.
func named(url string, err error) error {
	own, ok := err.(*plugin.Error)
	if !ok || own.Kind == plugin.Denied || strings.Contains(own.Message, host(url)) {
		return err
	}
	own.Message = page(url) + ": " + own.Message
	return own
}

// page is a URL without its query, which may be private.
func page(url string) string {
	before, _, _ := strings.Cut(url, "?")
	return before
}

func host(url string) string {
	_, host, _ := strings.Cut(origin(url), "://")
	return host
}

func isRedirect(status int) bool {
	switch status {
	case 301, 302, 303, 307, 308:
		return true
	}
	return false
}

// public are the headers that another server may get, too.
func public(all []header) []header {
	var public []header
	for _, header := range all {
		switch strings.ToLower(header.name) {
		case "authorization", "cookie", "host":
		default:
			if header.kind == text {
				public = append(public, header)
			}
		}
	}
	return public
}

// origin is scheme, host and port of an absolute URL, as written.
func origin(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	if end := strings.IndexAny(rest, `/\?#`); end >= 0 {
		rest = rest[:end]
	}
	return scheme + "://" + rest
}

// redirect is where a response to a request for url redirects to, as an absolute URL; "" if it does not say it.
func redirect(url, location string) string {
	scheme, _, ok := strings.Cut(url, "://")
	switch {
	case location == "" || !ok:
		return ""
	case strings.Contains(location, "://"):
		return location
	case strings.HasPrefix(location, "//"):
		return scheme + ":" + location
	case strings.HasPrefix(location, "/"):
		return origin(url) + location
	}
	path := strings.TrimPrefix(url, origin(url))
	if end := strings.IndexAny(path, "?#"); end >= 0 {
		path = path[:end]
	}
	folder := path[:max(strings.LastIndexByte(path, '/'), 0)]
	return origin(url) + folder + "/" + location
}
