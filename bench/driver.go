package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gitlab-runner-tart-driver/bench/report"
	"gitlab-runner-tart-driver/internal/trial"
	"gitlab-runner-tart-driver/internal/trial/civar"
)

// driver is a driver for the Custom executor.
type driver struct {
	name   string
	column report.Column
	path   string
	// words are arguments of all stages, or of one where its name and a colon come before.
	words []string
	// variables are those of every job.
	variables civar.List
	// noConfig says that it has no config stage.
	noConfig bool
}

// stages are the verbs of a driver, as GitLab Runner calls it.
func stages() []string {
	return []string{trial.StageConfig, trial.StagePrepare, "run", trial.StageCleanup}
}

// args are the arguments of a stage.
func (d *driver) args(stage string) []string {
	args := []string{stage}
	for _, word := range d.words {
		only := ""
		for _, s := range stages() {
			if rest, ok := strings.CutPrefix(word, s+":"); ok {
				only, word = s, rest
				break
			}
		}
		if only == "" || only == stage {
			args = append(args, word)
		}
	}
	return args
}

// programs are the driver's stages, each called by way of wrapper.
func (d *driver) programs(wrapper ...string) trial.Driver {
	stage := func(name string) trial.Exec {
		argv := append(append(append([]string(nil), wrapper...), d.path), d.args(name)...)
		return trial.Exec{Path: argv[0], Args: argv[1:]}
	}
	all := trial.Driver{Config: stage(trial.StageConfig), Prepare: stage(trial.StagePrepare), Run: stage("run"), Cleanup: stage(trial.StageCleanup)}
	if d.noConfig {
		all.Config = trial.Exec{}
	}
	return all
}

// with is the same driver with more arguments.
func (d *driver) with(words ...string) *driver {
	more := *d
	more.words = append(append([]string(nil), d.words...), words...)
	return &more
}

// peerOptions are the command line's words about another driver.
type peerOptions struct {
	path            string
	args, variables string
	noConfig        bool
}

func (o *peerOptions) addFlags(f *flag.FlagSet) {
	f.StringVar(&o.path, "peer", "", "`PROGRAM`: another driver, called as PROGRAM config|prepare|run SCRIPT STAGE|cleanup, to be measured beside this one")
	f.StringVar(&o.args, "peer-args", "", "its `ARGUMENTS`, with spaces between; STAGE:ARGUMENT is for one stage only, such as prepare:--concurrency=2")
	f.StringVar(&o.variables, "peer-variables", "", "variables of its jobs as `NAME=VALUE`, with spaces between")
	f.BoolVar(&o.noConfig, "peer-no-config", false, "it has no config stage")
}

// driver is the other driver, nil where there is none.
func (o *peerOptions) driver() (*driver, error) {
	if o.path == "" {
		return nil, nil
	}
	path, err := filepath.Abs(o.path)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(path); err != nil || st.IsDir() || st.Mode().Perm()&0o111 == 0 {
		return nil, fmt.Errorf("-peer %s: no such program", o.path)
	}
	d := &driver{name: filepath.Base(path), column: report.Peer, path: path, words: strings.Fields(o.args), noConfig: o.noConfig}
	for _, pair := range strings.Fields(o.variables) {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("-peer-variables %q: want NAME=VALUE", pair)
		}
		d.variables = append(d.variables, civar.Public(name, value))
	}
	return d, nil
}
