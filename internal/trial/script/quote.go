package script

import "strings"

// Quote returns s as one word for bash (and zsh, and sh where that is bash): unchanged where the shell would take it literally,
// otherwise in ANSI-C quoting, with every byte that is not printable ASCII as an escape, so that scripts are pure ASCII whatever
// the user wrote. s must not contain NUL, which no shell can hold.
//
// Source: https://www.gnu.org/software/bash/manual/html_node/ANSI_002dC-Quoting.html
func Quote(s string) string {
	if s == "" {
		return "''"
	}
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + len(s)/4 + 3)
	b.WriteString("$'")
	for i := range len(s) {
		writeEscaped(&b, s[i])
	}
	b.WriteByte('\'')
	return b.String()
}

// isPlain tells whether no byte of s means anything to a shell.
func isPlain(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte(",-./@_", c) >= 0:
		default:
			return false
		}
	}
	return true
}

func writeEscaped(b *strings.Builder, c byte) {
	const (
		named  = "\a\b\t\n\v\f\r'\\"
		letter = `abtnvfr'\`
		hex    = "0123456789abcdef"
	)
	if i := strings.IndexByte(named, c); i >= 0 {
		b.WriteByte('\\')
		b.WriteByte(letter[i])
		return
	}
	if c >= ' ' && c <= '~' {
		b.WriteByte(c)
		return
	}
	b.WriteString(`\x`)
	b.WriteByte(hex[c>>4])
	b.WriteByte(hex[c&0xf])
}

// QuoteWord returns s as one word in the quoting that people type: unchanged where that is enough, else between single quotes. It is
// for command lines that a person reads in the log.
func QuoteWord(s string) string {
	if s != "" && isPlain(strings.NewReplacer("=", "", ":", "", "+", "", "%", "").Replace(s)) && !strings.HasPrefix(s, "=") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
