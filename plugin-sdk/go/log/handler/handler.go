// Package handler makes log/slog write to the agent's log: slog.SetDefault(slog.New(handler.New())).
package handler

import (
	"bytes"
	"context"
	"log/slog"

	"wasaba.dev/plugin/log"
)

// New returns a handler. The agent adds the time and the plugin's name, and decides whether lines of level debug are logged.
func New() slog.Handler {
	buffer := &bytes.Buffer{}
	options := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, attribute slog.Attr) slog.Attr {
		if len(groups) == 0 && (attribute.Key == slog.TimeKey || attribute.Key == slog.LevelKey || attribute.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return attribute
	}}
	return handler{slog.NewTextHandler(buffer, options), buffer}
}

type handler struct {
	text   slog.Handler
	buffer *bytes.Buffer
}

func (h handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(ctx context.Context, record slog.Record) error {
	h.buffer.Reset()
	if err := h.text.Handle(ctx, record); err != nil {
		return err
	}
	line := record.Message
	if attributes := bytes.TrimSpace(h.buffer.Bytes()); len(attributes) > 0 {
		line += " " + string(attributes)
	}
	switch {
	case record.Level < slog.LevelInfo:
		log.Debug("%s", line)
	case record.Level < slog.LevelWarn:
		log.Info("%s", line)
	case record.Level < slog.LevelError:
		log.Warning("%s", line)
	default:
		log.Error("%s", line)
	}
	return nil
}

func (h handler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return handler{h.text.WithAttrs(attributes), h.buffer}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.text.WithGroup(name), h.buffer}
}
