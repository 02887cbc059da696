package job

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"

	"gitlab-runner-tart-driver/internal/proc"
)

// Environ is the environment of a stage, in the form of os.Environ. Of equal names the last counts, as for GitLab Runner.
type Environ []string

// Get is the value of a variable, or empty.
func (e Environ) Get(name string) string {
	for i := len(e) - 1; i >= 0; i-- {
		if n, v, ok := strings.Cut(e[i], "="); ok && n == name {
			return v
		}
	}
	return ""
}

const customEnv = "CUSTOM_ENV_"

// Variables are the job's variables, which GitLab Runner hands over with CUSTOM_ENV_ in front.
func (e Environ) Variables() map[string]string {
	vars := map[string]string{}
	for _, kv := range e {
		if kv, ok := strings.CutPrefix(kv, customEnv); ok {
			name, value, _ := strings.Cut(kv, "=")
			vars[name] = value
		}
	}
	return vars
}

// JobDir is the directory that GitLab Runner makes for an attempt at a job, and removes right after its cleanup; empty where that can't be told.
// https://gitlab.com/gitlab-org/gitlab-runner/-/blob/main/executors/custom/custom.go
func (e Environ) JobDir() string {
	dir := filepath.Dir(e.Get("JOB_RESPONSE_FILE"))
	if !filepath.IsAbs(dir) || !strings.HasPrefix(filepath.Base(dir), "custom-executor") {
		return ""
	}
	return dir
}

// Handover is what config hands on to the later stages, through job_env. A job can't change it: its own variables arrive with
// CUSTOM_ENV_ in front.
type Handover struct {
	// VM is the name of the VM to be made.
	VM string
	// StateDir is the state directory that config used.
	StateDir string
	// BuildsDir and CacheDir are the guest's, as reported to GitLab Runner.
	BuildsDir, CacheDir string
	// Ancestors are the parents of the config stage.
	Ancestors []proc.ID
}

// Names of the variables that carry a Handover.
const (
	envVM        = "TART_DRIVER_VM"
	envStateDir  = "TART_DRIVER_STATE_DIR"
	envBuildsDir = "TART_DRIVER_BUILDS_DIR"
	envCacheDir  = "TART_DRIVER_CACHE_DIR"
	envAncestors = "TART_DRIVER_ANCESTORS"
)

// JobEnv puts the handover into the form of job_env.
func (h Handover) JobEnv() map[string]string {
	ancestors, err := json.Marshal(h.Ancestors)
	if err != nil {
		ancestors = nil
	}
	return map[string]string{
		envVM: h.VM, envStateDir: h.StateDir, envBuildsDir: h.BuildsDir, envCacheDir: h.CacheDir, envAncestors: string(ancestors),
	}
}

// Handover reads what config handed on; it is empty when there is no config stage.
func (e Environ) Handover() Handover {
	h := Handover{VM: e.Get(envVM), StateDir: e.Get(envStateDir), BuildsDir: e.Get(envBuildsDir), CacheDir: e.Get(envCacheDir)}
	if json.Unmarshal([]byte(e.Get(envAncestors)), &h.Ancestors) != nil {
		h.Ancestors = nil
	}
	return h
}

// ExitCodes are what a stage may end with, as GitLab Runner says in its environment.
type ExitCodes struct {
	// BuildFailure blames the job; it is final.
	BuildFailure int
	// SystemFailure blames the infrastructure; prepare is tried three times.
	SystemFailure int
	// File is where the script's own exit code goes; empty with GitLab Runner before 17.9.
	File string
}

// ExitCodes reads them, with GitLab Runner's own values where the environment has none.
func (e Environ) ExitCodes() ExitCodes {
	return ExitCodes{
		BuildFailure:  e.code("BUILD_FAILURE_EXIT_CODE", 1),
		SystemFailure: e.code("SYSTEM_FAILURE_EXIT_CODE", 2),
		File:          e.Get("BUILD_EXIT_CODE_FILE"),
	}
}

// OfRunner tells whether GitLab Runner has started this process: it says in every stage which exit codes it understands.
func (e Environ) OfRunner() bool { return e.Get("BUILD_FAILURE_EXIT_CODE") != "" }

func (e Environ) code(name string, otherwise int) int {
	n, err := strconv.Atoi(e.Get(name))
	if err != nil || n < 1 || n > 255 {
		return otherwise
	}
	return n
}
