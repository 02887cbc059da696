// Package setup works out what a host needs to run jobs with this driver: a runner in GitLab Runner's config.toml (runner.go), made from nothing or
// from one of another driver (migrate.go), and a LaunchAgent (agent.go). It asks GitLab whether it knows the runner (verify.go).
//
// Of files it only plans the new content; they are written by whoever asked, once a person has seen the difference. What was
// planned before is found done the second time.
package setup

import (
	"bytes"
	"io/fs"

	"gitlab-runner-tart-driver/internal/doctor"
	"gitlab-runner-tart-driver/internal/runnerconf"
)

// Change is a file with the content that it is to have.
type Change struct {
	File    *runnerconf.File
	Content []byte
	// Mode is the file's mode when it is written.
	Mode fs.FileMode
}

// Needed tells whether the file is another than it is to be.
func (c *Change) Needed() bool { return !c.File.Exists || !bytes.Equal(c.File.Content, c.Content) }

// Diff is the change for a person, with secrets masked. name is the file's path as the person knows it.
func (c *Change) Diff(name string) string {
	before := name
	if !c.File.Exists {
		before = "/dev/null"
	}
	return runnerconf.Diff(before, c.File.Content, name, c.Content)
}

// Modes of the files. config.toml holds tokens; launchd wants its files readable.
const (
	configMode fs.FileMode = 0o600
	agentMode  fs.FileMode = 0o644
)

// Tool is a program that is needed.
type Tool struct {
	Name string
	// Path is empty where it was not found.
	Path string
	// Install says how to get it.
	Install string
}

// Tools looks for the programs that are needed, in the order in which they are to be installed.
func Tools(host doctor.Host) []Tool {
	tools := []Tool{
		{Name: "brew", Install: `/bin/bash -c "$(curl -fsSL https://raw.githubusercontent.com/Homebrew/install/HEAD/install.sh)"`},
		{Name: "tart", Install: "brew install openai/tools/tart"},
		{Name: "gitlab-runner", Install: "brew install gitlab-runner"},
	}
	for i := range tools {
		tools[i].Path, _ = host.Find(tools[i].Name)
	}
	return tools
}
