//go:build !wasip1

package log

import "wasaba.dev/plugin/internal/native"

func write(level, line string) {
	if native.Current != nil {
		native.Current.Log(level, line)
	}
}
