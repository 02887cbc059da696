package doctor

import (
	"context"
	"fmt"

	"gitlab-runner-tart-driver/internal/runnerconf"
)

// appleLimit is how many macOS guests may run on one host. https://www.apple.com/legal/sla/
const appleLimit = 2

func lookLimits(_ context.Context, s *survey) []Finding {
	if len(s.own) == 0 {
		return []Finding{skip("no runner that uses this driver was found")}
	}
	concurrent := s.config.Concurrent
	atGlobal := fmt.Sprintf("%s:%d", s.configPath, s.doc.Line(runnerconf.Global, "concurrent"))
	if concurrent < 1 {
		return []Finding{fail("concurrent = 2", "%s: concurrent is %d: GitLab Runner does not start", atGlobal, concurrent)}
	}
	var findings []Finding
	slots, total := 0, 0
	for _, r := range s.own {
		jobs := concurrent
		if r.Limit > 0 {
			jobs = min(jobs, r.Limit)
		}
		total += jobs
		slots = max(slots, r.settings.Slots())
		findings = append(findings, s.runnerLimits(r, jobs)...)
	}
	if total = min(total, concurrent); len(s.own) > 1 && total > slots {
		findings = append(findings, warn(fmt.Sprintf("let the limits of these runners add up to %d", slots),
			"%s: the runners that use this driver take up to %d jobs together, and there are places for %d VMs", atGlobal, total, slots))
	}
	if len(findings) == 0 {
		findings = append(findings, pass("%s at once, places for %s", plural(total, "job", "jobs"), plural(slots, "VM", "VMs")))
	}
	return findings
}

// runnerLimits looks at one runner, which takes up to jobs jobs at once.
func (s *survey) runnerLimits(r ownRunner, jobs int) []Finding {
	var findings []Finding
	slots, share := r.settings.Slots(), r.settings.Concurrency
	args := s.at(r, "custom", "prepare_args")
	if jobs > slots {
		findings = append(findings, warn(fmt.Sprintf("limit = %d", slots), "%s takes up to %d jobs at once, and there are places for %d VMs: the others wait, up to %.0f s (--slot-timeout)",
			s.at(r, "limit"), jobs, slots, r.settings.SlotTimeout.Seconds()))
	}
	if slots > appleLimit {
		findings = append(findings, warn(fmt.Sprintf("--max-vm-count %d, unless guests are Linux", appleLimit),
			"%s: %d VMs may run at once (%s); Apple allows two macOS guests on a host", args, slots, s.slotsOrigin(r)))
	}
	running := min(jobs, slots)
	automatic := r.settings.AutoResources && (r.settings.CPU == 0 || r.settings.MemoryMB == 0)
	switch fix := fmt.Sprintf("--concurrency %d in prepare_args", running); {
	case !automatic || share == running:
	case share < running:
		findings = append(findings, warn(fix, "%s: up to %s run at once, and each gets a share of the host as if there were %d (--concurrency)", args, plural(running, "VM", "VMs"), share))
	default:
		findings = append(findings, warn(fix, "%s: up to %s at once, with only the share of one of %d (--concurrency) each", args, plural(running, "VM runs", "VMs run"), share))
	}
	if requests := max(r.RequestConcurrency, 1); requests < running {
		findings = append(findings, warn(fmt.Sprintf("request_concurrency = %d", running),
			"%s has request_concurrency %d: a second job waits for the answer to the request before it, which GitLab may hold back for a minute", s.at(r, "request_concurrency"), requests))
	}
	return findings
}

func (s *survey) slotsOrigin(r ownRunner) string {
	if r.settings.IsDefault("max-vm-count") {
		return string(r.settings.Origin("concurrency"))
	}
	return string(r.settings.Origin("max-vm-count"))
}

// Bounds of timeouts, in seconds.
const (
	// abortLimit is when GitLab Runner goes on to cleanup though an aborted stage has not ended.
	// https://gitlab.com/gitlab-org/gitlab-runner/-/blob/main/common/build.go (WaitForBuildFinishTimeout)
	abortLimit = 300
	// endLimit is how long a stage may take to end: the script's 10 seconds after SIGTERM, and the keeper's answer.
	endLimit = 45
	// prepareLeast is time for an image to be pulled, tens of GB.
	prepareLeast = 900
	// configLeast and cleanupLeast are for a busy host.
	configLeast, cleanupLeast = 10, 90
	// shutdownLeast is what GitLab Runner has by default.
	shutdownLeast = runnerconf.DefaultShutdownTimeout
)

func lookTimeouts(_ context.Context, s *survey) []Finding {
	var global []Finding
	if n := s.config.ShutdownTimeout; len(s.own) > 0 && n > 0 && n < shutdownLeast {
		global = append(global, warn("shutdown_timeout = 120", "%s:%d: shutdown_timeout is %d s: GitLab Runner ends before its jobs are cleaned up",
			s.configPath, s.doc.Line(runnerconf.Global, "shutdown_timeout"), n))
	}
	return s.eachOwn("long enough, and short enough where they must be", s.runnerTimeouts, global...)
}

func (s *survey) runnerTimeouts(r ownRunner) []Finding {
	var findings []Finding
	stages := r.Custom.Stages()
	config, prepare, cleanup := stages[0], stages[1], stages[3]
	short := func(stage runnerconf.Stage, least int, why string) {
		key := stage.Verb + "_exec_timeout"
		findings = append(findings, warn(fmt.Sprintf("%s = %d", key, least), "%s: %s is %d s: %s", s.at(r, "custom", key), key, stage.Timeout, why))
	}
	if config.Timeout < configLeast {
		short(config, configLeast, "a busy host may take longer")
	}
	wait := int(r.settings.SlotTimeout.Seconds())
	switch {
	case prepare.Timeout < prepareLeast:
		short(prepare, max(wait+prepareLeast, runnerconf.DefaultExecTimeout), "the pull of an image takes longer")
	case prepare.Timeout < wait:
		short(prepare, wait+prepareLeast, fmt.Sprintf("a job may wait for its turn for up to %d s (--slot-timeout)", wait))
	}
	if cleanup.Timeout < cleanupLeast {
		short(cleanup, cleanupLeast, "the end of a VM that does not answer takes up to a minute")
	}
	kill := r.Custom.GracefulKillTimeout
	const fix = "graceful_kill_timeout = 60"
	switch at := s.at(r, "custom", "graceful_kill_timeout"); {
	case kill <= 0:
		findings = append(findings, warn(fix, "%s has no graceful_kill_timeout: %d s after a job is aborted GitLab Runner goes on to cleanup, and the stage before it may take %d s to end",
			at, abortLimit, runnerconf.DefaultGracefulKillTimeout))
	case kill >= abortLimit:
		findings = append(findings, warn(fix, "%s: graceful_kill_timeout is %d s, and GitLab Runner goes on to cleanup %d s after a job is aborted", at, kill, abortLimit))
	case kill < endLimit:
		findings = append(findings, warn(fix, "%s: graceful_kill_timeout is %d s: a script that is ended has 10 s, and the VM's answer may take 30 s more", at, kill))
	}
	return findings
}
