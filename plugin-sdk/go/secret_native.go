//go:build !wasip1

package plugin

import "wasaba.dev/plugin/internal/native"

func secretLength(handle any) int { return len(handle.(native.Secret)) }

func secretReveal(handle any) (string, error) { return string(handle.(native.Secret)), nil }
