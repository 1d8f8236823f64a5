// Package crypto is what log-ins compute from a secret. The agent does it, since it has the secret's text, and natively.
package crypto

import (
	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/place"
)

// ScramProof is what both sides of SCRAM send to prove that they know the password.
type ScramProof struct {
	// ClientProof is for "p=" of the client's last message, before base64.
	ClientProof []byte
	// ServerSignature must be in "v=" of the server's last message, before base64.
	ServerSignature []byte
}

// ScramSHA256 computes a proof; authMessage is what both sides sign. The agent caches the last key.
func ScramSHA256(password *plugin.Secret, salt []byte, iterations uint32, authMessage string) (ScramProof, error) {
	if password == nil {
		return ScramProof{}, plugin.Misconfigured.Errorf("%sthe secret is not set", place.Of())
	}
	return scramSHA256(password, salt, iterations, authMessage)
}

// PostgresMD5 returns PostgreSQL's answer to a request for an MD5 password.
func PostgresMD5(password *plugin.Secret, user string, salt []byte) (string, error) {
	if password == nil {
		return "", plugin.Misconfigured.Errorf("%sthe secret is not set", place.Of())
	}
	return postgresMD5(password, user, salt), nil
}
