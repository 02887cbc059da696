package provision

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// aRunner is a gitlab-runner that tells its version; what follows it is not run.
const aRunner = "#!/bin/sh\necho 'Version:      18.5.0'\necho 'Git revision: abc'\nexit 0\n"

// newInstallSandbox is a guest without GitLab Runner. What is copied to /usr/local/bin/gitlab-runner ends up in PATH. The script is run
// unchanged: a single byte more would move what follows it.
func newInstallSandbox(t *testing.T) *sandbox {
	t.Helper()
	s := newSandbox(t, "Darwin")
	s.dir("tmp")
	s.tool("mktemp", `[ "$1" = /tmp/gitlab-runner.XXXXXX ] || exit 1; : > "$ROOT/tmp/fetched"; echo "$ROOT/tmp/fetched"`)
	s.tool("mkdir", `[ "$*" = "-p /usr/local/bin" ]`)
	s.tool("cp", `[ "$2" = /usr/local/bin/gitlab-runner.new ] && cat "$1" > "$ROOT/bin/gitlab-runner.new"`)
	s.tool("chmod", `[ "$1" = 755 ] || exit 1; case $2 in /usr/local/bin/gitlab-runner*) set -- "$1" "$ROOT/bin/${2##*/}" ;; "$ROOT/tmp/fetched") ;; *) exit 1 ;; esac
exec `+realTool(t, "chmod")+` "$@"`)
	s.tool("mv", `[ "$*" = "-f /usr/local/bin/gitlab-runner.new /usr/local/bin/gitlab-runner" ] && exec `+realTool(t, "mv")+` -f "$ROOT/bin/gitlab-runner.new" "$ROOT/bin/gitlab-runner"`)
	return s
}

func payloads() map[string][]byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	noise := make([]byte, 3<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(noise) // never fails
	return map[string][]byte{
		"nothing behind it":  []byte(aRunner),
		"every byte":         append([]byte(aRunner), all...),
		"large":              append([]byte(aRunner), noise...),
		"looks like a shell": []byte(aRunner + "exit 0\ninstall_runner() { exit 77; }\nEOF\n'\"`(\n"),
		"no last line end":   []byte(aRunner + "x"),
		"zeros":              append([]byte(aRunner), make([]byte, 5000)...),
	}
}

func TestInstallFromBehindTheScript(t *testing.T) {
	for name, payload := range payloads() {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell string) {
				s := newInstallSandbox(t)
				script := Install{Methods: []string{"host", "curl"}}.Script()
				got := s.run(shell, script+string(payload))
				if got.code != 0 || !slices.Equal(got.answers, []string{"how=host", "runner=18.5.0"}) || len(got.output) > 100 {
					t.Fatalf("got exit code %d, answers %q, output %.300q", got.code, got.answers, got.output)
				}
				if installed, err := os.ReadFile(s.path("bin/gitlab-runner")); err != nil || !bytes.Equal(installed, payload) {
					t.Errorf("installed are %d bytes (%v), want the %d of the payload", len(installed), err, len(payload))
				}
				if _, err := os.Lstat(s.path("tmp/fetched")); err == nil {
					t.Error("the temporary file is left")
				}
			})
		})
	}
}

func TestInstallOfWhatDoesNotStart(t *testing.T) {
	for name, payload := range map[string]string{"binary": "\x7fELF\x00\x01\x02", "nothing": "", "a line end": "\n"} {
		eachShell(t, func(t *testing.T, shell string) {
			s := newInstallSandbox(t)
			got := s.run(shell, Install{Methods: []string{"host"}}.Script()+payload)
			if got.code != ExitRunner || len(got.answers) != 2 || got.answers[0] != "GitLab Runner of host does not start in the VM" {
				t.Errorf("%s: got %+v", name, got)
			}
			if _, err := os.Lstat(s.path("bin/gitlab-runner")); err == nil {
				t.Errorf("%s: is installed", name)
			}
		})
	}
}

func TestOffsetIsTheScriptsLength(t *testing.T) {
	for _, i := range []Install{
		{},
		{Methods: []string{"host"}},
		{Version: "v18.5.0", Methods: []string{"host", "curl", "wget", "brew"}},
		{Version: strings.Repeat("it's ", 2000), Methods: []string{"host", "it's"}},
		{Version: "é\n", Methods: []string{"host"}},
	} {
		script := i.Script()
		lines := strings.Split(strings.TrimSuffix(script, "\n"), "\n")
		call := lines[len(lines)-2]
		if lines[len(lines)-1] != "exit 0" || !strings.HasSuffix(script, "\n") {
			t.Fatalf("the script ends with %q", lines[len(lines)-1])
		}
		before, ok := strings.CutSuffix(call, " || exit 5")
		fields := strings.Fields(before)
		offset, err := strconv.Atoi(fields[len(fields)-1])
		if !ok || err != nil || offset != len(script)+1 {
			t.Errorf("%.40q: call %.200q, want the offset %d", i.Version, call, len(script)+1)
		}
	}
}

// fetcher is a fake of curl or wget: it notes the address and delivers a runner.
func fetcher(name string) string {
	return `echo "` + name + ` $*" >> "$ROOT/fetches"; while [ "$1" != -o ] && [ "$1" != -O ]; do shift; done; cat "$ROOT/runner" > "$2"`
}

func TestInstallTriesOneWayAfterTheOther(t *testing.T) {
	const url = "https://gitlab-runner-downloads.s3.amazonaws.com/"
	const fails = "exit 22"
	brew := `[ "$*" = "install gitlab-runner" ] && cat "$ROOT/runner" > "$ROOT/bin/gitlab-runner" && chmod 755 /usr/local/bin/gitlab-runner`
	for name, c := range map[string]struct {
		version string
		methods string
		tools   map[string]string
		how     string // empty: it cannot be installed
		says    string
		fetches string
	}{
		"curl":                    {methods: "curl wget", tools: map[string]string{"curl": fetcher("curl"), "wget": fetcher("wget")}, how: "curl", fetches: url + "latest/binaries/gitlab-runner-darwin-arm64"},
		"a version":               {version: "18.5.0", methods: "curl", tools: map[string]string{"curl": fetcher("curl")}, how: "curl", fetches: url + "v18.5.0/binaries/"},
		"a version with v":        {version: "v18.5.0", methods: "curl", tools: map[string]string{"curl": fetcher("curl")}, how: "curl", fetches: url + "v18.5.0/binaries/"},
		"latest":                  {version: "latest", methods: "curl", tools: map[string]string{"curl": fetcher("curl")}, how: "curl", fetches: url + "latest/binaries/"},
		"wget where curl fails":   {methods: "curl wget", tools: map[string]string{"curl": fails, "wget": fetcher("wget")}, how: "wget", fetches: "wget -q -O "},
		"wget where curl is not":  {methods: "curl wget brew", tools: map[string]string{"wget": fetcher("wget")}, how: "wget", fetches: "wget "},
		"brew":                    {methods: "curl wget brew", tools: map[string]string{"curl": fails, "brew": brew}, how: "brew"},
		"brew and a version":      {version: "18.5.0", methods: "brew", tools: map[string]string{"brew": brew}, says: "tried: brew"},
		"brew before curl":        {version: "18.5.0", methods: "brew curl", tools: map[string]string{"brew": brew, "curl": fetcher("curl")}, how: "curl", fetches: "curl "},
		"nothing is there":        {methods: "curl wget brew", says: "tried: nothing, for the VM has none of curl wget brew"},
		"nothing works":           {methods: "curl wget brew", tools: map[string]string{"curl": fails, "wget": fails, "brew": fails}, says: "tried: curl wget brew"},
		"only what is asked for":  {methods: "wget", tools: map[string]string{"curl": fetcher("curl")}, says: "none of wget"},
		"no way to the directory": {methods: "curl", tools: map[string]string{"curl": fetcher("curl"), "mkdir": "exit 1"}, says: "tried: curl", fetches: "curl "},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell string) {
				s := newInstallSandbox(t)
				s.write("runner", aRunner)
				for tool, body := range c.tools {
					s.tool(tool, body)
				}
				got := s.run(shell, Install{Version: c.version, Methods: strings.Fields(c.methods)}.Script())
				if c.how != "" && (got.code != 0 || Answer(got.answers, "how") != c.how || Answer(got.answers, "runner") != "18.5.0") {
					t.Errorf("got %+v, want it by %s", got, c.how)
				}
				if c.how == "" && (got.code != ExitRunner || len(got.answers) == 0 || !strings.Contains(got.answers[len(got.answers)-1], c.says)) {
					t.Errorf("got %+v, want the last answer to say %q", got, c.says)
				}
				if fetches := s.read("fetches"); c.fetches == "" && fetches != "" || !strings.Contains(fetches, c.fetches) {
					t.Errorf("fetched %q, want %q", fetches, c.fetches)
				}
				if _, err := os.Lstat(s.path("tmp/fetched")); err == nil {
					t.Error("the temporary file is left")
				}
			})
		})
	}
}

// TestInstallReplacesWhatIsThere, wherever that is: an older one that comes first in PATH would shadow the new one. The old file itself is not written to.
func TestInstallReplacesWhatIsThere(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		s := newInstallSandbox(t)
		s.tool("gitlab-runner", "echo 'Version: 15.0.0'")
		s.tool("cp", `exec `+realTool(t, "cp")+` "$@"`)
		s.tool("mkdir", "")
		s.tool("chmod", `exec `+realTool(t, "chmod")+` "$@"`)
		s.tool("mv", `exec `+realTool(t, "mv")+` "$@"`)
		if err := os.Link(s.path("bin/gitlab-runner"), s.path("old")); err != nil {
			t.Fatal(err)
		}
		if got := s.run(shell, Install{Methods: []string{"host"}}.Script()+aRunner); got.code != 0 || Answer(got.answers, "runner") != "18.5.0" {
			t.Errorf("got %+v", got)
		}
		if old := s.read("old"); !strings.Contains(old, "15.0.0") {
			t.Errorf("the old file was written over with %q", old)
		}
	})
}

// TestInstallWithoutTheHostsWhereThatDoesNotStart takes the next way.
func TestInstallWithoutTheHostsWhereThatDoesNotStart(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		s := newInstallSandbox(t)
		s.write("runner", aRunner)
		s.tool("curl", fetcher("curl"))
		got := s.run(shell, Install{Methods: []string{"host", "curl"}}.Script()+"\x7fELF, but for another machine")
		if got.code != 0 || Answer(got.answers, "how") != "curl" || Answer(got.answers, "runner") != "18.5.0" {
			t.Errorf("got %+v", got)
		}
	})
}

// TestOffsetIsDecimalForEveryTail is about BSD's tail, which takes a number with a zero in front for an octal one.
func TestOffsetIsDecimalForEveryTail(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		s := newInstallSandbox(t)
		s.tool("tail", `case $2 in +0*) echo "tail: illegal offset -- $2" >&2; exit 1 ;; esac; exec `+realTool(t, "tail")+` "$@"`)
		if got := s.run(shell, Install{Methods: []string{"host"}}.Script()+aRunner); got.code != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestInstallUsesSudoWhereItMust(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		s := newInstallSandbox(t)
		s.tool("cp", `[ -n "$AS_ROOT" ] && cat "$1" > "$ROOT/bin/gitlab-runner.new"`)
		got := s.run(shell, Install{Methods: []string{"host"}}.Script()+aRunner)
		if got.code != 0 || !strings.HasPrefix(s.read("sudo"), "-n cp ") {
			t.Errorf("got %+v, sudo was asked for %q", got, s.read("sudo"))
		}
	})
}

func TestInstallWithHostileVersion(t *testing.T) {
	for _, version := range []string{"'; touch owned; '", "$(touch owned)", "`touch owned`", "1 -o owned", "*"} {
		eachShell(t, func(t *testing.T, shell string) {
			s := newInstallSandbox(t)
			s.write("runner", aRunner)
			s.tool("touch", `: > "$ROOT/$1"`)
			s.tool("curl", `for a in "$@"; do printf '%s\n' "$a" >> "$ROOT/args"; done; exit 22`)
			got := s.run(shell, Install{Version: version, Methods: []string{"curl"}}.Script())
			args := strings.Split(s.read("args"), "\n")
			if got.code != ExitRunner || !slices.Contains(args, "https://gitlab-runner-downloads.s3.amazonaws.com/v"+version+"/binaries/gitlab-runner-darwin-arm64") {
				t.Errorf("%q: got %+v, curl was called with %q", version, got, args)
			}
			if _, err := os.Lstat(s.path("owned")); err == nil {
				t.Errorf("%q was run as script", version)
			}
		})
	}
}
