package crypto

import (
	"bytes"
	"strings"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/wire"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_crypto"
)

func scramSHA256(password *plugin.Secret, salt []byte, iterations uint32, authMessage string) (ScramProof, error) {
	wire.Enter()
	defer wire.Leave()
	proof, err := wire.Value(wit.ScramSha256(wire.Secret(password), salt, iterations, authMessage))
	return ScramProof{ClientProof: bytes.Clone(proof.ClientProof), ServerSignature: bytes.Clone(proof.ServerSignature)}, err
}

func postgresMD5(password *plugin.Secret, user string, salt []byte) string {
	wire.Enter()
	defer wire.Leave()
	return strings.Clone(wit.PostgresMd5(wire.Secret(password), user, salt))
}
