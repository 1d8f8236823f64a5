package plugin

import "wasaba.dev/plugin/internal/bridge"

// Secret is a secret of the operator, as a handle: the agent has its text, the plugin has not. Put it into a header, a message or a
// proof. Printing one shows nothing of it. Where a secret may be missing, nil stands for it.
type Secret struct{ handle any }

const hidden = bridge.Hidden

// String returns "[secret]", never its text: a header of fmt.Sprintf("Bearer %s", secret) would have these words. It is a mistake that
// package http reports; http.Request.HeaderSecret puts the text there.
func (*Secret) String() string { return hidden }

// GoString returns "[secret]".
func (*Secret) GoString() string { return hidden }

// MarshalText returns "[secret]", as for encoding/json.
func (*Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Length is its length in bytes, as for a message that announces it.
func (s *Secret) Length() int { return secretLength(s.handle) }

// Reveal returns its text. It is [Denied] unless the operator's table has "reveal = true".
func (s *Secret) Reveal() (string, error) { return secretReveal(s.handle) }

func init() {
	bridge.SecretOf = func(secret any) any {
		if secret := secret.(*Secret); secret != nil {
			return secret.handle
		}
		return nil
	}
}
