package plugin

// Setting is a setting of a plugin. Package setting makes them: setting.URL("url").
type Setting struct{ declared Declared }

// Declared is a setting as the agent sees it.
type Declared struct {
	Key, Kind string
	// Default is nil if there is none.
	Default              *string
	Required, Repeatable bool
	// PortOf is the key of a port's host.
	PortOf     string
	Help       string
	Attributes []Attribute
}

// Declared returns what was declared.
func (s Setting) Declared() Declared { return s.declared }

// NewSetting returns a setting of a kind of the contract. Package setting has a function for each.
func NewSetting(kind, key string) Setting { return Setting{Declared{Key: key, Kind: kind}} }

// OfHost is, of a port, the key of its host.
func (s Setting) OfHost(host string) Setting {
	s.declared.PortOf = host
	return s
}

// Alias adds another word that is valid for one of kind tls-mode, and which of the four it means.
func (s Setting) Alias(word, meaning string) Setting {
	attributes := s.declared.Attributes
	s.declared.Attributes = append(attributes[:len(attributes):len(attributes)], Attribute{"aliases", word + "=" + meaning})
	return s
}

// Default is the value if the operator sets none.
func (s Setting) Default(value string) Setting {
	s.declared.Default = &value
	return s
}

// Required makes the agent refuse an instance without it.
func (s Setting) Required() Setting {
	s.declared.Required = true
	return s
}

// Repeatable allows it more than once; see [Settings.All].
func (s Setting) Repeatable() Setting {
	s.declared.Repeatable = true
	return s
}

// Help is one sentence for the operator: lower case, without a full stop.
func (s Setting) Help(help string) Setting {
	s.declared.Help = help
	return s
}
