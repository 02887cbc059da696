package setup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"gitlab-runner-tart-driver/internal/doctor"
	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/settings"
)

// MigrateOptions say what runners of other drivers are to become.
type MigrateOptions struct {
	// Driver is the path of this driver's program.
	Driver string
	Host   doctor.Host
}

// Migration is what becomes of a config.toml.
type Migration struct {
	Change *Change
	// Runners are those that change, for a person.
	Runners []string
	// Notes say what can't be carried over, and what will be different.
	Notes []string
	// Own tells whether there is a runner of this driver already.
	Own bool
}

// PlanMigration turns the runners of the Python driver and of gitlab-tart-executor into ones of this driver.
func PlanMigration(file *runnerconf.File, opt MigrateOptions) (*Migration, error) {
	doc, err := runnerconf.Parse(file.Content)
	if err != nil {
		return nil, fmt.Errorf("%s is not valid: %w", file.Path, err)
	}
	m := &Migration{}
	for i, r := range doc.Config().Runners {
		var from runnerconf.Driver
		for _, stage := range r.Custom.Stages() {
			switch call := stage.Call(opt.Host.Head); call.Driver {
			case runnerconf.DriverPython, runnerconf.DriverTartExecutor:
				from = call.Driver
			case runnerconf.DriverOwn:
				m.Own = true
			}
		}
		if from == runnerconf.DriverNone {
			continue
		}
		m.Runners = append(m.Runners, fmt.Sprintf("%s, of %s", r.Describe(), from))
		if r.Executor != "custom" {
			m.note(r, "its executor is %q, so GitLab Runner doesn't call a driver at all", r.Executor)
		}
		if err := m.runner(doc, i, r, from, opt); err != nil {
			return nil, err
		}
	}
	content, err := doc.Bytes()
	if err != nil {
		return nil, err
	}
	m.Change = &Change{File: file, Content: content, Mode: configMode}
	return m, nil
}

func (m *Migration) note(r runnerconf.Runner, format string, args ...any) {
	text := fmt.Sprintf("%s: %s", r.Describe(), fmt.Sprintf(format, args...))
	if !slices.Contains(m.Notes, text) {
		m.Notes = append(m.Notes, text)
	}
}

// runner turns one runner.
func (m *Migration) runner(doc *runnerconf.Document, i int, r runnerconf.Runner, from runnerconf.Driver, opt MigrateOptions) error {
	s := &setter{doc: doc}
	for _, stage := range r.Custom.Stages() {
		key := "custom." + stage.Verb
		call := stage.Call(opt.Host.Head)
		switch call.Driver {
		case runnerconf.DriverOwn:
			continue
		case runnerconf.DriverOther:
			m.note(r, "%s_exec calls %s, which is left as it is", stage.Verb, call.Program)
			continue
		case runnerconf.DriverNone:
			s.set(i, key+"_exec", opt.Driver, "")
			s.set(i, key+"_args", m.added(r, stage.Verb), "")
			continue
		}
		args := m.carry(r, stage.Verb, call)
		if stage.Verb == settings.StagePrepare {
			args = append(args, m.loginOfRun(r, args, opt.Host.Head)...)
		}
		if stepsDown(call) {
			m.note(r, "%s: it is called without sudo from now on", stage.Verb)
			call.Before = nil
		}
		if len(call.Before) == 0 {
			s.set(i, key+"_exec", opt.Driver, "")
			s.set(i, key+"_args", args, "")
		} else { // it stands behind sudo, or the like
			s.set(i, key+"_args", slices.Concat(call.Before[1:], []string{opt.Driver}, args), "")
		}
	}
	for _, text := range differences(from, r) {
		m.note(r, "%s", text)
	}
	return s.err
}

// loginOfRun are the arguments about the login in the VM that only the run stage has, where the Python driver's README puts them. Here the login is prepare's.
func (m *Migration) loginOfRun(r runnerconf.Runner, prepare []string, head func(string) []byte) []string {
	var out []string
	for _, stage := range r.Custom.Stages() {
		if stage.Verb != settings.StageRun {
			continue
		}
		for _, a := range takeApart(stage.Call(head).Args) {
			if a.row == nil || !strings.HasPrefix(a.row.Name, "default-ssh-") || !a.hasValue || m.refused(a, runnerconf.DriverPython) != "" {
				continue
			}
			if !slices.ContainsFunc(takeApart(prepare), func(own argument) bool { return own.row == a.row }) {
				out = append(out, flagWords(*a.row, a.value)...)
				m.note(r, "prepare: --%s is taken from run_args: the login is prepare's here", a.row.Name)
			}
		}
	}
	return out
}

// stepsDown tells whether a call becomes root only for gitlab-tart-executor to become an ordinary user again. Its README calls it so.
func stepsDown(call runnerconf.Call) bool {
	if call.Driver != runnerconf.DriverTartExecutor || len(call.Before) == 0 || filepath.Base(call.Before[0]) != "sudo" {
		return false
	}
	for _, word := range call.Before[1:] { // nothing that names another user
		if !slices.Contains([]string{"-E", "-H", "-n", "--preserve-env", "--set-home", "--non-interactive", "--"}, word) {
			return false
		}
	}
	return slices.ContainsFunc(takeApart(call.Args), func(a argument) bool { return a.name == settings.UserFlag })
}

// added are the arguments of a stage that the other driver needs not, and this one does. A config stage overrides the runner's own directories in
// the VM, and so they are carried over.
func (m *Migration) added(r runnerconf.Runner, verb string) []string {
	args := []string{verb}
	if verb == settings.StageConfig {
		for _, dir := range []struct{ flag, path string }{{"--guest-builds-dir", r.BuildsDir}, {"--guest-cache-dir", r.CacheDir}} {
			if strings.HasPrefix(dir.path, "/") {
				args = append(args, dir.flag, dir.path)
			}
		}
	}
	m.note(r, "the %s stage is added", verb)
	return args
}

// carry carries the arguments of a stage over.
func (m *Migration) carry(r runnerconf.Runner, verb string, call runnerconf.Call) []string {
	arguments := takeApart(call.Args)
	if len(arguments) == 0 || arguments[0].name != "" || arguments[0].value != verb {
		m.note(r, "%s_args do not begin with %q, and are carried over without a look at which stage they call", verb, verb)
	}
	var out []string
	for _, a := range arguments {
		flag := strings.Join(a.words, " ")
		switch why := m.refused(a, call.Driver); {
		case a.name == "":
			out = append(out, a.value)
		case why != "":
			m.note(r, "%s: %s is not carried over: %s", verb, flag, why)
		case a.hasValue && len(a.words) == 1 && strings.Contains(a.words[0], " ") && !strings.Contains(strings.SplitN(a.words[0], " ", 2)[0], "="):
			out = append(out, strings.SplitN(a.words[0], " ", 2)[0], a.value) // two arguments in one
		default:
			out = append(out, a.words...)
		}
		if call.Driver == runnerconf.DriverPython && a.row != nil && slices.Contains(deadFlags(), a.row.Name) {
			m.note(r, "%s: --%s has an effect here; the Python driver takes it and does nothing about it", verb, a.row.Name)
		}
	}
	return out
}

// deadFlags are settings that the Python driver has flags for, and whose flags do nothing there.
func deadFlags() []string {
	return []string{"timeout", "display", "auto-resources", "concurrency", "shell", "install-gitlab-runner", "force-install-gitlab-runner", "gitlab-runner-version"}
}

// refused says why a flag is left behind; empty for one that this driver takes.
func (m *Migration) refused(a argument, from runnerconf.Driver) string {
	switch {
	case a.name == "":
		return ""
	case from == runnerconf.DriverTartExecutor && a.name == settings.UserFlag:
		return settings.UserFlagUnused
	case a.name == "help" || a.name == "version":
		return "it runs no stage"
	case a.row == nil && a.name == "config":
		return ""
	case a.row == nil:
		return "this driver has no such flag"
	}
	if a.hasValue || a.row.IsSwitch() {
		_, errs := settings.Resolve(settings.Sources{
			Flags: map[string]string{a.row.Name: a.given()}, Defaults: map[string]string{"state-dir": "/"},
		})
		if err := errors.Join(errs...); err != nil {
			return err.Error()
		}
		return ""
	}
	return "its value is missing"
}

// differences are what jobs will notice. docs/from-gitlab-tart-executor.md and docs/from-python-driver.md say more.
func differences(from runnerconf.Driver, r runnerconf.Runner) []string {
	var out []string
	has := func(flag string) bool {
		for _, stage := range r.Custom.Stages() {
			for _, a := range takeApart(stage.Args) {
				if a.row != nil && a.row.Name == flag {
					return true
				}
			}
		}
		return false
	}
	if from != runnerconf.DriverTartExecutor {
		return out
	}
	if !has("pull-policy") {
		out = append(out, "images are pulled if they are not there; --pull-policy always in prepare_args asks the registry for every job, as gitlab-tart-executor does")
	}
	if !has("guest-builds-dir") && r.BuildsDir == "" {
		out = append(out, "jobs are checked out in /opt/builds in the VM; --guest-builds-dir /var/tmp/builds in config_args and prepare_args has gitlab-tart-executor's place")
	}
	if !has("shell") {
		out = append(out, "scripts run in /bin/zsh as a login shell; --shell in prepare_args and run_args sets another")
	}
	if !has("timezone") {
		out = append(out, "VMs keep their own time zone; --timezone auto in prepare_args gives them the host's")
	}
	if !has("auto-prune") {
		out = append(out, "tart doesn't delete cached images by itself; --image-budget in prepare_args keeps them in bounds")
	}
	return out
}
