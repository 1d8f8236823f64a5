//go:build !wasip1

package crypto

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/bridge"
	"wasaba.dev/plugin/internal/native"
)

func reveal(secret *plugin.Secret) string { return string(bridge.SecretOf(secret).(native.Secret)) }

func scramSHA256(password *plugin.Secret, salt []byte, iterations uint32, authMessage string) (ScramProof, error) {
	if len(salt) == 0 || iterations < 4096 {
		return ScramProof{}, plugin.Invalid.Errorf("an empty salt, or less than 4,096 iterations")
	}
	salted, err := pbkdf2.Key(sha256.New, reveal(password), salt, int(iterations), sha256.Size)
	if err != nil {
		return ScramProof{}, err
	}
	clientKey := sign(salted, "Client Key")
	storedKey := sha256.Sum256(clientKey)
	proof := sign(storedKey[:], authMessage)
	for index := range proof {
		proof[index] ^= clientKey[index]
	}
	return ScramProof{proof, sign(sign(salted, "Server Key"), authMessage)}, nil
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func postgresMD5(password *plugin.Secret, user string, salt []byte) string {
	inner := md5.Sum([]byte(reveal(password) + user))
	outer := md5.Sum(append([]byte(hex.EncodeToString(inner[:])), salt...))
	return "md5" + hex.EncodeToString(outer[:])
}
