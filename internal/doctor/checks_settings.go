package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/settings"
)

func lookSettings(_ context.Context, s *survey) []Finding {
	return s.eachOwn("all stages understand their arguments", func(r ownRunner) []Finding {
		var findings []Finding
		for _, stage := range r.Custom.Stages() {
			at := s.at(r, "custom", stage.Verb+"_args")
			said := map[string]bool{}
			for _, err := range r.faults[stage.Verb] {
				if said[err.Error()] {
					continue
				}
				said[err.Error()] = true
				findings = append(findings, fail("gitlab-runner-tart-driver "+stage.Verb+" --help lists what there is", "%s: %s: %v", at, stage.Verb, err))
			}
		}
		findings = append(findings, s.sharedDirs(r)...)
		findings = append(findings, s.environment(r)...)
		return append(findings, s.oneStateDir(r)...)
	})
}

// sharedDirs looks whether the host has the directories that VMs are to get. Those of --builds-dir and --cache-dir are made by the driver.
func (s *survey) sharedDirs(r ownRunner) []Finding {
	var findings []Finding
	look := func(flag, path string) {
		if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || rest[0] == '/') {
			path = filepath.Join("/", s.home, rest)
		}
		info, err := s.host.Stat(path)
		if err == nil && !info.Mode.IsDir() {
			err = errors.New("not a directory")
		}
		if err != nil {
			findings = append(findings, fail("mkdir -p "+path, "%s: --%s: %s: %v", s.at(r, "custom", "prepare_args"), flag, path, reason(err)))
		}
	}
	for _, volume := range r.settings.Volumes {
		path, _, _ := strings.Cut(volume, ":")
		look("volume", path)
	}
	for _, dir := range r.settings.Dirs {
		parts := strings.Split(dir, ":")
		i := slices.IndexFunc(parts, func(part string) bool { return strings.HasPrefix(part, "/") || strings.HasPrefix(part, "~") })
		if i >= 0 && i <= 1 && !strings.Contains(dir, "://") {
			look("dir", parts[i])
		}
	}
	return findings
}

// environment looks for names that no setting has among the variables that config.toml gives to jobs.
func (s *survey) environment(r ownRunner) []Finding {
	variables := map[string]string{}
	for _, kv := range r.Environment {
		name, value, _ := strings.Cut(kv, "=")
		variables[name] = value
	}
	var findings []Finding
	for _, text := range settings.Unknown(variables) {
		findings = append(findings, warn("", "%s: %s", s.at(r, "environment"), text))
	}
	return findings
}

// oneStateDir looks whether the stages agree on where records are.
func (s *survey) oneStateDir(r ownRunner) []Finding {
	dirs := map[string]string{}
	for _, stage := range r.Custom.Stages() {
		args := r.args[stage.Verb]
		dir, ok := args.Flags["state-dir"]
		if !ok && args.File != "" {
			if values, err := s.readSettings(args.File); err == nil {
				dir, ok = values["state-dir"]
			}
		}
		if r.calls[stage.Verb].Driver == runnerconf.DriverOwn {
			if !ok && stage.Verb != settings.StageConfig && r.calls[settings.StageConfig].Driver == runnerconf.DriverOwn {
				continue // it takes what config hands on
			}
			dirs[dir] = stage.Verb
		}
	}
	if len(dirs) < 2 {
		return nil
	}
	var said []string
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		name := dir
		if dir == "" {
			name = "the default"
		}
		said = append(said, fmt.Sprintf("%s (%s)", name, dirs[dir]))
	}
	return []Finding{fail("give all stages the same --state-dir", "%s: the stages have different state directories: %s", s.at(r, "custom"), strings.Join(said, ", "))}
}

func lookOverridden(_ context.Context, s *survey) []Finding {
	return s.eachOwn("left to the config stage", func(r ownRunner) []Finding {
		var findings []Finding
		config := r.calls[settings.StageConfig].Driver == runnerconf.DriverOwn
		for _, set := range []struct{ key, value, flag string }{
			{"builds_dir", r.BuildsDir, "--guest-builds-dir"}, {"cache_dir", r.CacheDir, "--guest-cache-dir"},
		} {
			switch {
			case set.value != "" && config:
				findings = append(findings, warn(fmt.Sprintf("take it out, and give config and prepare %s, if it is to be another directory in the VM", set.flag),
					"%s: %s has no effect: the config stage tells GitLab Runner", s.at(r, set.key), set.key))
			case set.value != "" && !filepath.IsAbs(set.value):
				findings = append(findings, fail("write the whole path", "%s: %s is %q, and must be the whole path of a directory in the VM", s.at(r, set.key), set.key, set.value))
			}
		}
		switch {
		case r.Shell == "" || r.Shell == "bash":
		case config:
			findings = append(findings, warn("take it out; --shell sets what runs the scripts in the VM",
				"%s: shell = %q has no effect: the config stage asks for bash", s.at(r, "shell"), r.Shell))
		default:
			findings = append(findings, fail(`shell = "bash"; --shell sets what runs the scripts in the VM`,
				"%s: shell is %q, and this driver runs scripts that are written for bash", s.at(r, "shell"), r.Shell))
		}
		return findings
	})
}
