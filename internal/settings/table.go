package settings

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"gitlab-runner-tart-driver/internal/lazy"
)

// Stage names, for the stages in whose --help a setting is shown. Every flag is taken by every stage, so that one list of arguments
// can serve all four.
const (
	StageConfig  = "config"
	StagePrepare = "prepare"
	StageRun     = "run"
	StageCleanup = "cleanup"
)

var allStages = []string{StageConfig, StagePrepare, StageRun, StageCleanup}

const (
	// UserFlag is gitlab-tart-executor's: prepare and run are called as root there, for the sake of macOS's Local Network permission, and become that user.
	// Every stage takes it, and it sets nothing.
	UserFlag = "user"
	// UserFlagUnused says why, to a person.
	UserFlagUnused = "this driver stays the user that it is called as, which must be the same in all stages: call it without sudo. " +
		"With --transport agent it needs no Local Network permission"
)

// Setting is a row of the table.
type Setting struct {
	// Name is the flag without dashes.
	Name string
	// Short is the one-letter flag, if any.
	Short string
	// Aliases are other names of the flag.
	Aliases []string
	// Variables are the job variables that set it, the first found counts. Without any, only the operator can set it.
	Variables []string
	// Default is the value where nobody sets one.
	Default string
	// Takes is what stands for the value in help; empty for a switch.
	Takes string
	// Stages are where --help shows it.
	Stages []string
	// List takes several values.
	List bool
	// Closed settings can be set by a job only where the operator opens them, with --unlock.
	Closed bool
	// Secret values are never shown.
	Secret bool
	// Help says what it is for.
	Help string

	// set stores a value, or says what it expects.
	set func(s *Settings, value string) (expected string)
	// bound says what the operator allows where a job's value is more than that.
	bound func(job, operator *Settings) (allowed string)
	// meanings translate the values of variables that other drivers have for this setting.
	meanings map[string]func(string) string
}

// IsSwitch tells whether the flag takes no value.
func (row Setting) IsSwitch() bool { return row.Takes == "" }

// PullPolicies are the values of the pull policy, as GitLab's Docker executor has them.
var PullPolicies = []string{"always", "if-not-present", "never"}

// Table returns all settings, in the order of the reference. It is the same for all callers, who leave it as it is.
func Table() []Setting { return table() }

var table = sync.OnceValue(func() []Setting {
	return slices.Concat(hostSettings(), imageSettings(), machineSettings(), guestSettings())
})

// maxText is how long a value may be, in bytes.
const maxText = 4096

// The setters below store a value or say what they expect.

func text(field func(*Settings) *string, what string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		if strings.ContainsFunc(v, unicode.IsControl) || !utf8.ValidString(v) {
			return what + " on one line, without control characters"
		}
		if len(v) > maxText {
			return fmt.Sprintf("%s of at most %d bytes", what, maxText)
		}
		*field(s) = v
		return ""
	}
}

// matchingOr takes what matches a pattern, and the setting's default, which needs no look: an expression takes time to compile.
func matchingOr(usual string, field func(*Settings) *string, pattern, what string) func(*Settings, string) string {
	re := lazy.Regexp(pattern)
	return func(s *Settings, v string) string {
		if v != usual && (len(v) > maxText || !re().MatchString(v)) {
			return what
		}
		*field(s) = v
		return ""
	}
}

// matchingOrEmpty is matchingOr for settings that may be left out.
func matchingOrEmpty(field func(*Settings) *string, pattern, what string) func(*Settings, string) string {
	return matchingOr("", field, pattern, what)
}

// absolutePath takes the path of a directory, and leaves out what it can do without: with a slash at its end it would be another place than without one, and no
// link can be made there.
func absolutePath(field func(*Settings) *string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		if len(v) > maxText || !strings.HasPrefix(v, "/") || strings.ContainsFunc(v, isControl) {
			return "an absolute path"
		}
		*field(s) = path.Clean(v)
		return ""
	}
}

func isControl(r rune) bool { return r < ' ' }

func oneOf(field func(*Settings) *string, values ...string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		if !slices.Contains(values, v) {
			return "one of " + strings.Join(values, ", ")
		}
		*field(s) = v
		return ""
	}
}

func number(field func(*Settings) *int, least, most int, unit string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil || n < least || n > most {
			return fmt.Sprintf("a whole number%s from %d to %d", unit, least, most)
		}
		*field(s) = n
		return ""
	}
}

// numberOrAuto is number, from 0 on; auto is what gitlab-tart-executor has for our 0.
func numberOrAuto(field func(*Settings) *int, most int, unit string) func(*Settings, string) string {
	exact := number(field, 0, most, unit)
	return func(s *Settings, v string) string {
		if strings.TrimSpace(v) == "auto" {
			v = "0"
		}
		if expected := exact(s, v); expected != "" {
			return expected + ", or auto"
		}
		return ""
	}
}

func seconds(field func(*Settings) *time.Duration) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		var n int
		check := number(func(*Settings) *int { return &n }, 1, 7*24*3600, " of seconds")
		if expected := check(s, v); expected != "" {
			return expected
		}
		*field(s) = time.Duration(n) * time.Second
		return ""
	}
}

// toggle takes what people type for yes and no.
func toggle(field func(*Settings) *bool) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true", "1", "yes", "on", "t", "y":
			*field(s) = true
		case "false", "0", "no", "off", "f", "n":
			*field(s) = false
		default:
			return "true or false (or 1, 0, yes, no, on, off)"
		}
		return ""
	}
}

// names takes the names of settings, separated by commas or spaces.
func names(field func(*Settings) *[]string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		*field(s) = items(v)
		return ""
	}
}

// items splits a list of words.
func items(v string) []string {
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// list takes items that each match pattern, one on a line.
func list(field func(*Settings) *[]string, pattern, what string) func(*Settings, string) string {
	re := lazy.Regexp(pattern)
	return func(s *Settings, v string) string {
		var items []string
		for line := range strings.Lines(v) {
			item := strings.TrimSpace(line)
			if item == "" {
				continue
			}
			if len(item) > maxText || !re().MatchString(item) || strings.ContainsRune(item, 0) {
				return what
			}
			items = append(items, item)
		}
		*field(s) = items
		return ""
	}
}

// expressions takes regular expressions, one on a line.
func expressions(field func(*Settings) *[]*regexp.Regexp) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		var all []*regexp.Regexp
		for line := range strings.Lines(v) {
			re, err := regexp.Compile(strings.TrimRight(line, "\n"))
			if err != nil {
				return "a regular expression (" + err.Error() + ")"
			}
			all = append(all, re)
		}
		*field(s) = all
		return ""
	}
}

// networks takes networks in CIDR notation, separated by commas or spaces.
func networks(field func(*Settings) *[]string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		all := items(v)
		for _, n := range all {
			if _, err := netip.ParsePrefix(n); err != nil {
				return "networks such as 10.1.0.0/16, separated by commas"
			}
		}
		*field(s) = all
		return ""
	}
}

// hostPath takes a path on the host, absolute or in the home directory, or none. gitlab-tart-executor has $HOME for that directory.
func hostPath(field func(*Settings) *string) func(*Settings, string) string {
	usual := matchingOrEmpty(field, `^((/|~/)[^\x00-\x1f]*|~)$`, "an absolute path, or one that begins with ~/")
	return func(s *Settings, v string) string {
		for _, home := range []string{"$HOME", "${HOME}"} {
			if rest, ok := strings.CutPrefix(v, home); ok && (rest == "" || rest[0] == '/') {
				v = "~" + rest
			}
		}
		return usual(s, v)
	}
}

// installMethod takes yes and no, and what gitlab-tart-executor takes: a way to install, or a version.
func installMethod(s *Settings, v string) string {
	var yes bool
	if toggle(func(*Settings) *bool { return &yes })(s, v) == "" {
		s.InstallRunner, s.InstallMethod = yes, ""
		return ""
	}
	switch {
	case slices.Contains([]string{"curl", "wget", "brew"}, v):
		s.InstallRunner, s.InstallMethod = true, v
	case regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+$`).MatchString(v):
		s.InstallRunner, s.InstallMethod, s.RunnerVersion = true, "", v
	default:
		return "true, false, curl, wget, brew, or a version such as 18.5.0"
	}
	return ""
}

// either translates a switch of another driver into one of two values. What is no switch is left for the setting to refuse.
func either(yes, no string) func(string) string {
	return func(v string) string {
		var on bool
		switch {
		case toggle(func(*Settings) *bool { return &on })(nil, v) != "":
			return v
		case on:
			return yes
		default:
			return no
		}
	}
}

// withoutLogin leaves out what makes a shell a login shell, as in gitlab-tart-executor's `bash -l`: here each is one.
func withoutLogin(shell string) string {
	path, option, _ := strings.Cut(strings.TrimSpace(shell), " ")
	if option = strings.TrimSpace(option); option == "-l" || option == "--login" {
		return path
	}
	return shell
}

// anyPolicies is policies, or none.
func anyPolicies(field func(*Settings) *[]string) func(*Settings, string) string {
	some := policies(field)
	return func(s *Settings, v string) string {
		if len(items(v)) == 0 {
			*field(s) = nil
			return ""
		}
		return some(s, v)
	}
}

// policies takes pull policies, separated by commas or spaces.
func policies(field func(*Settings) *[]string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		list := items(v)
		for _, p := range list {
			if !slices.Contains(PullPolicies, p) {
				list = nil
			}
		}
		if len(list) == 0 {
			return "one of " + strings.Join(PullPolicies, ", ") + ", or several of them separated by commas"
		}
		*field(s) = list
		return ""
	}
}
