// Package metadata is for plugins that gather JSON documents about the host, which rarely change.
package metadata

import (
	"encoding/json"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/bridge"
)

// Document is a JSON document.
type Document struct {
	// Namespace is empty for the one of the operator's table, or begins with the table's name and "-".
	Namespace string
	// Content is anything that encoding/json can write; a json.RawMessage is used as it is.
	Content any
}

// Results are what a call has gathered.
type Results struct {
	Documents []Document
	// Problems are the targets without documents, of several.
	Problems []Problem
}

// Problem is why a target, in the operator's words, has no documents.
type Problem struct {
	Target string
	Err    error
}

// Of returns the results of a call that has one document, the table's own.
func Of(content any) Results { return Results{Documents: []Document{{Content: content}}} }

// Gatherer is the part of a plugin that gathers metadata. Pass it to [plugin.Export].
type Gatherer struct {
	Gather func(plugin.Settings) (Results, error)
}

var gatherer Gatherer

// Serve makes it what the agent calls.
func (g Gatherer) Serve() {
	if g.Gather == nil {
		panic("metadata.Gatherer has no Gather")
	}
	gatherer = g
}

// gathered is what the agent gets.
type gathered struct {
	documents [][2]string
	problems  []Problem
}

func gather(settings plugin.Settings) (gathered gathered, err error) {
	err = bridge.Call(func() error {
		results, err := gatherer.Gather(settings)
		if err != nil {
			return err
		}
		for _, document := range results.Documents {
			text, err := json.Marshal(document.Content)
			if err != nil {
				return bridge.Mistake("the document `%s` cannot be JSON: %v", document.Namespace, err)
			}
			gathered.documents = append(gathered.documents, [2]string{document.Namespace, string(text)})
		}
		gathered.problems = results.Problems
		return nil
	})
	return gathered, err
}

func init() {
	bridge.Gather = func(settings any) (any, error) {
		gathered, err := gather(settings.(plugin.Settings))
		return gathered.documents, err
	}
}
