package setup

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/doctor"
	"gitlab-runner-tart-driver/internal/runnerconf"
)

// brewPath is where Homebrew puts programs on Apple silicon.
const brewPath = "/opt/homebrew/bin"

// AgentPlan is what is to be done for GitLab Runner to be started by launchd.
type AgentPlan struct {
	// Change is the LaunchAgent's file; nil where there is none to write.
	Change *Change
	// Path is the host's path of the file.
	Path string
	// Made says that the file is a new one, which launchd is to be told of.
	Made bool
	// Notes are what a person must know or do.
	Notes []string
}

// AgentOptions say how GitLab Runner is to be started.
type AgentOptions struct {
	// Runner is the path of gitlab-runner, empty where it is not there, and Config that of its config.toml.
	Runner, Config string
}

// PlanAgent works out the LaunchAgent. A file that starts GitLab Runner already only gets Homebrew's directory into its PATH.
func PlanAgent(ctx context.Context, host doctor.Host, opt AgentOptions) (AgentPlan, error) {
	switch {
	case host.OS() != "darwin":
		return AgentPlan{Notes: []string{"there is no launchd here: start GitLab Runner with `gitlab-runner run`, or as this system starts services"}}, nil
	case host.UID() == 0:
		return AgentPlan{Notes: []string{"a LaunchAgent is a user's, and this is root: run setup as the user who is to run jobs"}}, nil
	}
	var plan AgentPlan
	for _, found := range doctor.FindServices(ctx, host) {
		switch {
		case found.Err != nil:
			plan.Notes = append(plan.Notes, fmt.Sprintf("%s cannot be read and is left alone: %v", found.Path, found.Err))
		case found.Daemon:
			plan.Notes = append(plan.Notes, fmt.Sprintf("%s starts GitLab Runner as a LaunchDaemon, which can't run macOS guests; `gitlab-runner-tart-driver doctor` says more", found.Path))
		case plan.Path == "":
			if err := plan.edit(host, found); err != nil {
				return plan, err
			}
		}
	}
	if plan.Path != "" || len(plan.Notes) > 0 {
		return plan, nil
	}
	if opt.Runner == "" {
		plan.Notes = append(plan.Notes, "the LaunchAgent is left for when gitlab-runner is installed: run setup again then")
		return plan, nil
	}
	home := filepath.Join("/", host.Getenv("HOME"))
	plan.Path, plan.Made = filepath.Join(home, "Library/LaunchAgents/gitlab-runner.plist"), true
	file, err := runnerconf.Open(host.Real(plan.Path))
	if err != nil {
		return plan, err
	}
	plan.Change = &Change{File: file, Mode: agentMode, Content: newAgent(home, opt)}
	return plan, nil
}

// edit puts Homebrew's directory into the PATH of a LaunchAgent.
func (plan *AgentPlan) edit(host doctor.Host, found doctor.Service) error {
	plan.Path = found.Path
	if slices.Contains(found.SearchPath(), brewPath) {
		return nil
	}
	if strings.HasPrefix(filepath.Base(found.Path), "homebrew.") {
		plan.Notes = append(plan.Notes, fmt.Sprintf("%s lacks %s in its PATH, and Homebrew writes it anew at every start: `brew services stop gitlab-runner`, and run setup again",
			found.Path, brewPath))
		return nil
	}
	file, err := runnerconf.Open(host.Real(found.Path))
	if err != nil {
		return err
	}
	content, err := withPath(file.Content, strings.Join(append([]string{brewPath}, found.SearchPath()...), ":"))
	if err != nil {
		plan.Notes = append(plan.Notes, fmt.Sprintf("%s lacks %s in its PATH and can't be edited: %v; `plutil -convert xml1 %s` makes it readable", found.Path, brewPath, err, found.Path))
		return nil
	}
	plan.Change = &Change{File: file, Content: content, Mode: agentMode}
	plan.Notes = append(plan.Notes, "GitLab Runner gets its new PATH when it starts again: `gitlab-runner restart` while no job runs")
	return nil
}

// launchLimit is how long launchd may take to answer.
const launchLimit = 30 * time.Second

// Load tells launchd of a new LaunchAgent once it is written, and says how that went. One that runs already is left alone: its jobs would end with it.
func (plan AgentPlan) Load(ctx context.Context, host doctor.Host) (notes []string) {
	if !plan.Made {
		return nil
	}
	domain := fmt.Sprintf("gui/%d", host.UID())
	if _, err := host.Run(ctx, launchLimit, "launchctl", "bootstrap", domain, host.Real(plan.Path)); err != nil {
		return []string{fmt.Sprintf("launchd does not start GitLab Runner yet (%v); at the Mac's screen or by Screen Sharing: launchctl bootstrap %s %s", err, domain, plan.Path)}
	}
	return []string{"launchd runs GitLab Runner now, and whenever this user logs in"}
}

// newAgent is a LaunchAgent that `gitlab-runner start` and `stop` take for their own. The logs are where a directory is sure to be: launchd does not
// start what it can't write the log of. https://docs.gitlab.com/runner/install/osx/
func newAgent(home string, opt AgentOptions) []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>gitlab-runner</string>
  <key>ProgramArguments</key>
  <array>
`)
	for _, arg := range []string{opt.Runner, "run", "--config", opt.Config, "--working-directory", home, "--service", "gitlab-runner", "--syslog"} {
		b.WriteString("    " + plistString(arg) + "\n")
	}
	b.WriteString(`  </array>
  <!-- launchd's own PATH has neither tart's nor softnet's directory -->
  <key>EnvironmentVariables</key>
  <dict>
    <key>PATH</key>
    ` + plistString(brewPath+":/usr/local/bin:"+doctor.LaunchdPath) + `
  </dict>
  <!-- a VM is no background work that macOS may slow down -->
  <key>ProcessType</key>
  <string>Interactive</string>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <true/>
  <key>SessionCreate</key>
  <false/>
  <key>StandardOutPath</key>
  ` + plistString(filepath.Join(home, "Library/Logs/gitlab-runner.out.log")) + `
  <key>StandardErrorPath</key>
  ` + plistString(filepath.Join(home, "Library/Logs/gitlab-runner.err.log")) + `
</dict>
</plist>
`)
	return b.Bytes()
}

// plistString is a string of a property list.
func plistString(s string) string {
	var b bytes.Buffer
	if err := xml.EscapeText(&b, []byte(s)); err != nil { // a bytes.Buffer takes everything
		return "<string></string>"
	}
	return "<string>" + b.String() + "</string>"
}

var errNotXML = errors.New("it is not in XML, or not as launchd has it")

// withPath sets PATH in the EnvironmentVariables of a launchd job, and leaves all else as it is.
func withPath(raw []byte, path string) ([]byte, error) {
	splice := func(from, to int64, text string) []byte { return slices.Concat(raw[:from], []byte(text), raw[to:]) }
	entry := "<key>PATH</key>" + plistString(path)
	d := xml.NewDecoder(bytes.NewReader(raw))
	depth, key := 0, ""
	var inEnviron bool
	for {
		before := d.InputOffset()
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil, errNotXML
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNotXML, err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			name := token.Name.Local
			depth++
			empty := bytes.HasSuffix(raw[before:d.InputOffset()], []byte("/>"))
			switch {
			case name == "key":
				if err := d.DecodeElement(&key, &token); err != nil {
					return nil, fmt.Errorf("%w: %w", errNotXML, err)
				}
				depth--
			case name == "dict" && depth == 3 && key == "EnvironmentVariables" && empty:
				return splice(before, d.InputOffset(), "<dict>"+entry+"</dict>"), nil
			case name == "dict" && depth == 3 && key == "EnvironmentVariables":
				inEnviron = true
			case name == "string" && depth == 4 && inEnviron && key == "PATH":
				if err := d.Skip(); err != nil {
					return nil, fmt.Errorf("%w: %w", errNotXML, err)
				}
				return splice(before, d.InputOffset(), plistString(path)), nil
			}
		case xml.EndElement:
			switch {
			case depth == 3 && inEnviron: // its end, without a PATH
				return splice(before, before, "  "+entry+"\n  "), nil
			case depth == 2 && token.Name.Local == "dict": // the job's end, without any
				return splice(before, before, "  <key>EnvironmentVariables</key>\n  <dict>\n    "+entry+"\n  </dict>\n"), nil
			}
			depth--
		}
	}
}
