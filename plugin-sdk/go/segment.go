package plugin

import "strings"

// Segment returns a text as one segment of a metric's name: each character that Mackerel does not accept there becomes "_".
func Segment(text string) string {
	if text == "" {
		return "_"
	}
	return strings.Map(func(char rune) rune {
		switch {
		case 'a' <= char && char <= 'z', 'A' <= char && char <= 'Z', '0' <= char && char <= '9', char == '-', char == '_':
			return char
		}
		return '_'
	}, text)
}
