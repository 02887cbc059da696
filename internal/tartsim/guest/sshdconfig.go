package guest

import (
	"os"
	"path/filepath"
	"strings"
)

// sshdOption is the value of a keyword (in lower case) in an OpenSSH server's configuration, as far as the built-in server knows it: the first one
// counts, those of `Match all` come before the others, and other Match blocks are passed over. Empty where there is none.
// https://man.openbsd.org/sshd_config
func sshdOption(path, keyword string) string {
	var o sshdOptions
	o.read(path, keyword, false, 0)
	if len(o.matched) > 0 {
		return o.matched[0]
	}
	return strings.Join(o.global[:min(1, len(o.global))], "")
}

type sshdOptions struct{ global, matched []string }

// maxIncludes is how deep files may include each other.
const maxIncludes = 16

// read reads a file that is included within `Match all`, or else for everybody.
func (o *sshdOptions) read(path, keyword string, matching bool, depth int) {
	data, err := os.ReadFile(path)
	if err != nil || depth > maxIncludes {
		return
	}
	passed := false // the lines of a Match block that is not for everybody
	for line := range strings.Lines(string(data)) {
		name, value := sshdWords(line)
		switch {
		case name == "match":
			matching = strings.EqualFold(value, "all")
			passed = !matching
		case passed:
		case name == "include":
			for _, pattern := range strings.Fields(value) {
				files, _ := filepath.Glob(pattern) // a bad pattern finds nothing, as with OpenSSH
				for _, file := range files {
					o.read(file, keyword, matching, depth+1)
				}
			}
		case name == keyword && matching:
			o.matched = append(o.matched, value)
		case name == keyword:
			o.global = append(o.global, value)
		}
	}
}

// sshdWords are a line's keyword, in lower case, and its value. Both are empty for a comment.
func sshdWords(line string) (keyword, value string) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "#") {
		return "", ""
	}
	end := strings.IndexAny(line, " \t=")
	if end < 0 {
		return strings.ToLower(line), ""
	}
	return strings.ToLower(line[:end]), strings.TrimLeft(line[end:], " \t=")
}
