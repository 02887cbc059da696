package doctor

// Table returns all checks, in the order in which they are made.
func Table() []Check {
	return append(append(hostChecks(), runnerChecks()...), vmChecks()...)
}

func hostChecks() []Check {
	return []Check{
		{ID: "macos", Title: "macOS and processor", Needs: []string{"sw_vers"}, look: lookMacOS,
			Why: "Tart runs on Apple silicon with macOS 13 or later; the guest agent needs macOS 14."},
		{ID: "clock", Title: "the clock", look: lookClock,
			Why: "With a clock that is behind, no certificate of a registry or of GitLab is valid yet. Without asking the network, only a clock that is behind " +
				"the host's own files can be told."},
		{ID: "tart", Title: "Tart", look: lookTart,
			Why: "Without `tart`, or with one that lacks what the settings ask for, no VM starts."},
		{ID: "tart-licence", Title: "Tart's licence", look: lookLicence,
			Why: "For information. This driver calls Tart and ships none of it; which licence applies depends on Tart's version."},
		{ID: "gitlab-runner", Title: "GitLab Runner", look: lookGitLabRunner,
			Why: "GitLab Runner tells drivers what the job is since 14.1, and takes the exit code of a script since 17.9."},
	}
}

func runnerChecks() []Check {
	return []Check{
		{ID: "config", Title: "config.toml", look: lookConfig, mend: mendConfigMode, Mends: "takes the file from other users' eyes (mode 0600)",
			Why: "GitLab Runner does nothing with a file that it can't read, or that has no runner with this driver. The file holds tokens."},
		{ID: "stages", Title: "programs of the stages", look: lookStages,
			Why: "A stage whose program is missing, is no program, or is another stage's fails every job."},
		{ID: "settings", Title: "arguments and settings", look: lookSettings,
			Why: "A stage refuses a flag that it doesn't know and a value that it can't use, and fails the job."},
		{ID: "limits", Title: "number of jobs and VMs", look: lookLimits,
			Why: "A job that GitLab Runner takes and that finds no place for its VM waits, though another Mac may be idle. VMs that are given more of the host " +
				"than there is slow each other down. Apple lets two macOS guests run on a host."},
		{ID: "timeouts", Title: "timeouts", look: lookTimeouts,
			Why: "GitLab Runner ends a stage that takes longer: a pull of an image, or a wait for a place. Five minutes after a job is aborted it goes on to " +
				"cleanup, whether or not the stage before has ended; so what ends a stage must be done by then."},
		{ID: "overridden", Title: "shell and directories of the runner", look: lookOverridden,
			Why: "The config stage tells GitLab Runner the shell and the directories in the VM; what config.toml says of them is overridden."},
		{ID: "service", Title: "GitLab Runner as a service", Needs: []string{"launchctl"}, look: lookService,
			Why: "A LaunchDaemon has no user session, and so no login keychain, which macOS guests need; GitLab Runner supports LaunchAgents alone."},
		{ID: "service-path", Title: "PATH of the service", Needs: []string{"launchctl"}, look: lookServicePath,
			Why: "launchd gives GitLab Runner a PATH without Homebrew's programs. This driver finds tart and softnet all the same; programs that stages " +
				"name without a path, and registries' login helpers, are not found."},
		{ID: "auto-login", Title: "automatic login", Needs: []string{"defaults"}, look: lookAutoLogin,
			Why: "LaunchAgents, and the login keychain, wait for their user to log in. Without automatic login, nothing runs after a restart."},
	}
}

func vmChecks() []Check {
	return []Check{
		{ID: "keychain", Title: "login keychain", Needs: []string{"security"}, look: lookKeychain,
			Why: "Since macOS 15, macOS guests start only while there is an unlocked login keychain. https://tart.run/faq/#headless-machines"},
		{ID: "local-network", Title: "Local Network privacy", Needs: []string{"defaults"}, look: lookLocalNetwork,
			Why: "Since macOS 15, a program that a LaunchAgent starts may not reach VMs over the network unless it is let. What users have allowed by a click " +
				"can't be looked up, nor, without root, what is allowed for all programs."},
		{ID: "dhcp-lease", Title: "DHCP lease time", Needs: []string{"defaults"}, look: lookDHCPLease,
			Why: "By default macOS keeps a VM's address for a day, and has about 250: a busy host runs out of them. " +
				"https://tart.run/faq/#changing-the-default-dhcp-lease-time"},
		{ID: "dhcp-table", Title: "DHCP leases", Needs: []string{leasesPath}, look: lookDHCPTable,
			Why: "When all addresses are taken, VMs get none; and in a table full of old entries, two VMs can get the same."},
		{ID: "softnet", Title: "Softnet", look: lookSoftnet,
			Why: "Softnet must be SUID root, or be allowed by sudo without a password; else no VM starts that uses it."},
		{ID: "disk", Title: "disk space", look: lookDisk,
			Why: "Jobs are refused where less than --disk-reserve is free, and pulls need room for a second copy of an image."},
		{ID: "state-dir", Title: "state directory", look: lookStateDir, mend: mendStateDir, Mends: "closes the directory to other users (mode 0700)",
			Why: "Records of VMs, their locks and sockets are there. Locks on another machine's disk don't keep what they promise."},
		{ID: "leftovers", Title: "VMs that nobody answers for", look: lookLeftovers, mend: mendLeftovers,
			Mends: "removes VMs of this driver whose keeper is gone, as the next job would",
			Why:   "VMs that run count against Apple's limit of two, and all take disk space."},
	}
}
