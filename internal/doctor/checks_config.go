package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/settings"
)

const (
	runSetup   = "gitlab-runner-tart-driver setup"
	runMigrate = "gitlab-runner-tart-driver migrate"
)

func lookConfig(_ context.Context, s *survey) []Finding {
	if s.configErr != nil {
		fix := runSetup
		if s.host.UID() == 0 && s.host.OS() == "darwin" {
			fix = "run it as the user that GitLab Runner runs as, without sudo"
		}
		if s.doc == nil && !strings.HasPrefix(s.configErr.Error(), "there is no") {
			fix = "" // the reason names the place
		}
		return []Finding{fail(fix, "%v", s.configErr)}
	}
	var findings []Finding
	if info, err := s.host.Stat(s.configPath); err == nil && info.Mode.Perm()&0o077 != 0 {
		findings = append(findings, warn("chmod 600 "+s.configPath, "%s holds tokens, and other users can get at it (mode %04o)", s.configPath, info.Mode.Perm()))
	}
	others := false
	for i, r := range s.config.Runners {
		at := fmt.Sprintf("%s:%d: %s", s.configPath, s.doc.Line(i), r.Describe())
		var drivers []runnerconf.Driver
		for _, stage := range r.Custom.Stages() {
			drivers = append(drivers, stage.Call(s.host.Head).Driver)
		}
		own := slices.Contains(drivers, runnerconf.DriverOwn)
		switch other := slices.Max(drivers); {
		case own && r.Executor != "custom":
			findings = append(findings, fail(`executor = "custom"`, "%s has a [runners.custom] for this driver, but its executor is %q", at, r.Executor))
		case own && (r.URL == "" || r.Token == ""):
			findings = append(findings, fail(runSetup, "%s has no url or no token: GitLab gives it no jobs", at))
		case !own && other > runnerconf.DriverOwn:
			others = true
			findings = append(findings, warn(runMigrate, "%s uses %s", at, other))
		}
	}
	failed := slices.ContainsFunc(findings, func(f Finding) bool { return f.Status == Fail })
	switch { // where a runner was meant for this driver, what is amiss with it has been said
	case len(s.own) == 0 && others:
		findings = append(findings, fail(runMigrate, "no runner in %s uses this driver", s.configPath))
	case len(s.own) == 0 && !failed:
		findings = append(findings, fail(runSetup, "no runner in %s uses this driver", s.configPath))
	}
	if len(findings) == 0 {
		findings = append(findings, pass("%s: %s", s.configPath, plural(len(s.own), "runner uses this driver", "runners use this driver")))
	}
	return findings
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func mendConfigMode(_ context.Context, s *survey) (string, error) {
	info, err := s.host.Stat(s.configPath)
	if err != nil || info.Mode.Perm()&0o077 == 0 {
		return "", nil // nothing that can be mended
	}
	if err := os.Chmod(s.host.Real(s.configPath), 0o600); err != nil {
		return "", reason(err)
	}
	return fmt.Sprintf("%s has mode 0600 now", s.configPath), nil
}

// eachOwn makes a check of every runner that uses this driver, after what was found for all of them; ok is what to say where nothing is amiss.
func (s *survey) eachOwn(ok string, look func(ownRunner) []Finding, findings ...Finding) []Finding {
	if len(s.own) == 0 {
		return []Finding{skip("no runner that uses this driver was found")}
	}
	for _, r := range s.own {
		findings = append(findings, look(r)...)
	}
	if len(findings) == 0 {
		findings = append(findings, pass("%s", ok))
	}
	return findings
}

// absent says what is missing with a stage.
func absent(verb string) string {
	return map[string]string{
		"config":  "GitLab Runner isn't told the directories in the VM, nor the shell",
		"prepare": "no VM is made for a job",
		"run":     "GitLab Runner refuses the runner",
		"cleanup": "VMs stay until their deadline",
	}[verb]
}

func lookStages(_ context.Context, s *survey) []Finding {
	return s.eachOwn("config, prepare, run and cleanup call this driver", func(r ownRunner) []Finding {
		var findings []Finding
		for _, stage := range r.Custom.Stages() {
			findings = append(findings, s.stage(r, stage)...)
		}
		return findings
	})
}

// stage looks at the program of a stage, and whether it is called for the right one.
func (s *survey) stage(r ownRunner, stage runnerconf.Stage) []Finding {
	key := stage.Verb + "_exec"
	at := s.at(r, "custom", key)
	call := r.calls[stage.Verb]
	switch {
	case call.Driver == runnerconf.DriverNone:
		fix := fmt.Sprintf("%s = %s and %s_args = [%q] in [runners.custom]", key, runnerconf.Quote(s.ownProgram(r)), stage.Verb, stage.Verb)
		if stage.Verb == settings.StageConfig && r.BuildsDir != "" && r.CacheDir != "" {
			return []Finding{warn(fix, "%s has no %s: %s", at, key, "the driver can tell only later which GitLab Runner started the job")}
		}
		return []Finding{fail(fix, "%s has no %s: %s", at, key, absent(stage.Verb))}
	case call.Driver == runnerconf.DriverOther: // perhaps a person's own script, which calls this driver
		return []Finding{warn("", "%s: %s is %s, and other stages call this driver: it must call it, too", at, key, call.Program)}
	case call.Driver != runnerconf.DriverOwn:
		return []Finding{fail(runMigrate, "%s: %s calls %s, and other stages call this driver", at, key, call.Driver)}
	}
	var findings []Finding
	programs := []string{stage.Exec}
	if call.Program != stage.Exec {
		programs = append(programs, call.Program)
	}
	for _, program := range programs {
		if f, ok := s.program(at, key, program, s.ownProgram(r)); !ok {
			findings = append(findings, f)
		}
	}
	args, at := r.args[stage.Verb], s.at(r, "custom", stage.Verb+"_args")
	switch {
	case args.Stage != stage.Verb:
		findings = append(findings, fail(fmt.Sprintf("%s_args = [%q, …]", stage.Verb, stage.Verb),
			"%s: %s_args begin with %q, and so call another stage than %s", at, stage.Verb, args.Stage, stage.Verb))
	case len(args.Rest) > 0:
		findings = append(findings, fail("take it out of "+stage.Verb+"_args", "%s: %s_args has an argument that is no flag: %q", at, stage.Verb, args.Rest[0]))
	}
	return findings
}

// ownProgram is the path that other stages of a runner have for this driver, if that is a program, or this program's.
func (s *survey) ownProgram(r ownRunner) string {
	for _, stage := range r.Custom.Stages() {
		call := r.calls[stage.Verb]
		if info, err := s.host.Stat(call.Program); call.Driver == runnerconf.DriverOwn && filepath.IsAbs(call.Program) && err == nil && info.Executable() {
			return call.Program
		}
	}
	return s.opt.Executable
}

// program looks whether GitLab Runner can start a program; ok is false where it can't, or not for sure. better is one that it can.
func (s *survey) program(at, key, program, better string) (f Finding, ok bool) {
	instead := fmt.Sprintf("%s = %s", key, runnerconf.Quote(better))
	if !filepath.IsAbs(program) {
		path, found := s.host.Find(program)
		switch {
		case strings.Contains(program, "/"):
			return fail("write the whole path", "%s: %s is %q, which is looked for in another directory for every job", at, key, program), false
		case !found:
			return fail("write the whole path", "%s: %s is %q, which is in none of the usual directories", at, key, program), false
		}
		return warn(fmt.Sprintf("%s = %s", key, runnerconf.Quote(path)), "%s: %s is %q without a path: it depends on the PATH of the service", at, key, program), false
	}
	info, err := s.host.Stat(program)
	switch {
	case err != nil:
		return fail(instead, "%s: %s is %s: %v", at, key, program, reason(err)), false
	case info.Mode.IsRegular() && !info.Executable():
		return fail("chmod +x "+program, "%s: %s is %s, which is not executable (mode %04o)", at, key, program, info.Mode.Perm()), false
	case !info.Mode.IsRegular():
		return fail(instead, "%s: %s is %s, which is no file (%s)", at, key, program, kind(info.Mode)), false
	}
	return Finding{}, true
}

func kind(mode fs.FileMode) string {
	if mode.IsDir() {
		return "it is a directory"
	}
	return mode.Type().String()
}
