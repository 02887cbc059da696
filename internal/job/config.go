package job

// Config is what the config stage prints.
// https://docs.gitlab.com/runner/executors/custom/#config
type Config struct {
	BuildsDir string            `json:"builds_dir"`
	CacheDir  string            `json:"cache_dir"`
	Hostname  string            `json:"hostname,omitempty"`
	Driver    DriverInfo        `json:"driver"`
	JobEnv    map[string]string `json:"job_env"`
	// Shell is the language of the scripts that GitLab Runner writes: always bash, which every shell that we may run them with
	// understands.
	Shell string `json:"shell"`
}

// DriverInfo names the driver in the job log.
type DriverInfo struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}
