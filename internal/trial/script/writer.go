package script

import (
	"fmt"
	"path"
	"strings"

	"gitlab-runner-tart-driver/internal/trial/civar"
)

// colours as GitLab Runner uses them in what its scripts print
const (
	reset     = "\x1b[0;m"
	boldGreen = "\x1b[32;1m"
	yellow    = "\x1b[0;33m"
)

// onTerm makes a shell that is told to end do so by itself. A shell killed by a signal may print the command it was running.
//
// Source: https://gitlab.com/gitlab-org/gitlab-runner/-/issues/39005
const onTerm = "trap 'exit 1' TERM"

// writer collects the lines of a script's body.
type writer struct {
	strings.Builder
	indent int
	tmpDir string
}

func (w *writer) line(text string) {
	w.WriteString(strings.Repeat("  ", w.indent))
	w.WriteString(text)
	w.WriteByte('\n')
}

func (w *writer) linef(format string, args ...any) { w.line(fmt.Sprintf(format, args...)) }

// words quotes each word, so that the command gets them as they are.
func words(list ...string) string {
	quoted := make([]string, len(list))
	for i, word := range list {
		quoted[i] = Quote(word)
	}
	return strings.Join(quoted, " ")
}

func (w *writer) command(list ...string) { w.line(words(list...)) }

// notice prints text in bold green, as GitLab Runner prints the commands of a script.
func (w *writer) notice(text string) { w.line("echo " + Quote(boldGreen+text+reset)) }

func (w *writer) warning(text string) { w.line("echo " + Quote(yellow+text+reset)) }

// absolute makes a path inside the guest independent of the current directory. Such paths are written between double quotes.
func absolute(p string) string {
	if path.IsAbs(p) {
		return p
	}
	return path.Join("$PWD", p)
}

// double quotes a path in which $PWD is to be expanded.
func double(p string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`").Replace(p) + `"`
}

// tmpFile is a file in the directory that GitLab Runner keeps beside the project directory.
func (w *writer) tmpFile(name string) string { return absolute(path.Join(w.tmpDir, name)) }

// export makes one variable known to the commands that follow; a file-type variable is written to its file first.
func (w *writer) export(v civar.Variable) {
	if !v.File {
		w.linef("export %s=%s", Quote(v.Key), Quote(v.Value))
		return
	}
	file := double(w.tmpFile(v.Key))
	w.linef("mkdir -p %s", double(absolute(w.tmpDir)))
	w.linef("printf '%%s' %s > %s", Quote(v.Value), file)
	w.linef("export %s=%s", Quote(v.Key), file)
}

func (w *writer) mkdir(dir string) { w.command("mkdir", "-p", dir) }

func (w *writer) rmFile(file string) { w.linef("rm -f %s", double(file)) }

// rmDir removes a tree even where a job has taken write permission away.
func (w *writer) rmDir(dir string) {
	w.ifDo(fmt.Sprintf("[ -d %s ]", double(dir)), func() { w.linef("chmod -R u+rwX %s", double(dir)) }, nil)
	w.linef("rm -r -f %s", double(dir))
}

// rmFound removes what find matches; "find -delete" is not portable.
func (w *writer) rmFound(dir, name string) {
	w.ifDo(fmt.Sprintf("[ -d %s ]", double(dir)), func() {
		w.linef("find %s -name %s -type f -exec rm -f {} +", double(dir), Quote(name))
	}, nil)
}

// ifDo writes a condition with its two branches; no may be nil.
func (w *writer) ifDo(condition string, yes, no func()) {
	w.line("if " + condition + "; then")
	w.indent++
	yes()
	w.indent--
	if no != nil {
		w.line("else")
		w.indent++
		no()
		w.indent--
	}
	w.line("fi")
}

// commands writes the lines of a user's script: each is shown and then run as it is, so that errexit stops at the one that fails.
func (w *writer) commands(list []string) {
	for _, command := range list {
		command = strings.TrimSpace(command)
		first, _, multiline := strings.Cut(command, "\n")
		switch {
		case command == "":
			w.line("echo")
		case multiline:
			w.notice("$ " + first + " # collapsed multi-line command")
		default:
			w.notice("$ " + command)
		}
		w.line(command)
	}
}

// finish wraps the body in the frame that GitLab Runner gives to every script.
func (w *writer) finish(shell string, trace, legacyEval bool) string {
	var b strings.Builder
	b.WriteString("#!/usr/bin/env " + shell + "\n\n")
	b.WriteString(onTerm + "\n\n")
	if trace {
		b.WriteString("set -o xtrace\n")
	}
	b.WriteString(`case "$(set -o)" in *"pipefail"*) set -o pipefail;; esac; set -o errexit` + "\n")
	b.WriteString("set +o noclobber\n")
	if legacyEval {
		b.WriteString(": | eval " + Quote(w.String()) + "\n")
	} else {
		b.WriteString("(" + onTerm + "; eval " + Quote(w.String()) + ") < /dev/null\n")
	}
	b.WriteString("exit 0\n")
	return b.String()
}
