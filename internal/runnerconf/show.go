package runnerconf

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"gitlab-runner-tart-driver/internal/lazy"
)

// Diff shows what changes from one content of config.toml to another, as a unified diff, with secrets masked. It is empty where nothing does.
// Either may be no valid TOML; then tokens are masked by their form alone.
func Diff(oldName string, before []byte, newName string, after []byte) string {
	if bytes.Equal(before, after) {
		return ""
	}
	known := map[string]string{}
	for _, secret := range secretsOf(before) {
		known[secret] = "[MASKED]"
	}
	old := mask(before, known)
	for _, secret := range secretsOf(after) {
		if known[secret] == "" {
			known[secret] = "[MASKED, new]" // or else no difference would be seen
		}
	}
	shown := diff.Diff(oldName, old, newName, mask(after, known))
	_, shown, _ = bytes.Cut(shown, []byte("\n")) // its first line repeats the names
	return string(shown)
}

// secretKey matches the names of settings, variables and flags whose values are nobody's business.
var secretKey = lazy.Regexp(`(?i)(token|pass|passw(or)?d|passphrase|secret|credentials?|(secret|private|access|account)_?key)$`)

// tokenForm matches GitLab's tokens wherever they stand, in comments too.
// https://docs.gitlab.com/security/tokens/#token-prefixes
var tokenForm = lazy.Regexp(`\b(gl(pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent|wt|soat|ffct)-|GR1348941|t[0-9]_)[0-9A-Za-z_.-]{8,}`)

// secretsOf are the secret values of a config.toml.
func secretsOf(raw []byte) []string {
	var out []string
	if d, err := Parse(raw); err == nil {
		for _, t := range d.secretTexts() {
			out = append(out, t.value)
		}
	}
	for _, token := range tokenForm().FindAll(raw, -1) {
		out = append(out, string(token))
	}
	return out
}

// secretTexts are the strings of the document that hold secrets, in the order of the file.
func (d *Document) secretTexts() []text {
	var out []text
	add := func(t text) {
		if t.value != "" {
			out = append(out, t)
		}
	}
	for _, s := range d.sections {
		for _, e := range s.entries {
			name := e.path[len(e.path)-1]
			for i, t := range e.texts {
				flag, _, joined := strings.Cut(t.value, "=")
				switch {
				case secretKey().MatchString(name), joined && secretKey().MatchString(flag):
					add(t)
				case i > 0 && strings.HasPrefix(e.texts[i-1].value, "-") && secretKey().MatchString(e.texts[i-1].value):
					add(t)
				case strings.HasPrefix(t.value, "-") && secretKey().MatchString(firstWord(t.value)):
					add(t)
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b text) int { return cmp.Compare(a.at.from, b.at.from) })
	return out
}

// firstWord is the flag of an argument that holds its value, too, behind a space; empty for others.
func firstWord(arg string) string {
	flag, _, ok := strings.Cut(arg, " ")
	if !ok {
		return ""
	}
	return flag
}

// mask puts the labels of known secrets in their place.
func mask(raw []byte, known map[string]string) []byte {
	label := func(secret string) string {
		if l := known[secret]; l != "" {
			return l
		}
		return "[MASKED]"
	}
	var out bytes.Buffer
	at := 0
	if d, err := Parse(raw); err == nil {
		for _, t := range d.secretTexts() {
			if t.at.from < at { // an outer value that holds it is masked already
				continue
			}
			out.Write(raw[at:t.at.from])
			name := ""
			if flag, _, joined := strings.Cut(t.value, "="); joined && secretKey().MatchString(flag) {
				name = flag + "="
			} else if flag := firstWord(t.value); secretKey().MatchString(flag) && strings.HasPrefix(flag, "-") {
				name = flag + " "
			}
			out.WriteString(Quote(name + label(t.value)))
			at = t.at.to
		}
	}
	out.Write(raw[at:])
	return tokenForm().ReplaceAllFunc(out.Bytes(), func(token []byte) []byte { return []byte(label(string(token))) })
}
