package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/settings"
)

// FuzzStages calls config and cleanup as GitLab Runner does, with anything in the job's variables, the job response and the arguments. Whatever
// comes, the exit code is one of GitLab Runner's, and what config prints is JSON or nothing.
func FuzzStages(f *testing.F) {
	f.Add("value", `{"id":1,"token":"t"}`, "-x\x00/bin/false")
	f.Add("../$(id)\n'\"", `{"id":1,"image":{"name":"-x"}}`, "--cpu\x00many")
	f.Add("\xff\x00", `{`, "--volume /a:/b")
	f.Add("", "", "--")
	f.Add("x", `{"id":18446744073709551616}`, "--no-headless\x00--lock\x00x\x00--\x00y")
	var names []string
	for _, row := range settings.Table() {
		names = append(names, row.Variables...)
	}
	names = append(names, "CI_JOB_ID", "CI_JOB_IMAGE", "CI_PROJECT_PATH", "CI_JOB_TIMEOUT")
	f.Fuzz(func(t *testing.T, value, response, args string) {
		dir := t.TempDir()
		file := filepath.Join(dir, "response.json")
		if err := os.WriteFile(file, []byte(response), 0o600); err != nil {
			t.Fatal(err)
		}
		environ := []string{"HOME=" + dir, "PATH=/nowhere", "JOB_RESPONSE_FILE=" + file, "BUILD_EXIT_CODE_FILE=" + filepath.Join(dir, "code"),
			"BUILD_FAILURE_EXIT_CODE=11", "SYSTEM_FAILURE_EXIT_CODE=12"}
		for _, n := range names {
			environ = append(environ, "CUSTOM_ENV_"+n+"="+value)
		}
		for _, stage := range []string{"config", "cleanup"} {
			var stdout, stderr bytes.Buffer
			argv := []string{stage, "--state-dir", filepath.Join(dir, "state")}
			for a := range strings.SplitSeq(args, "\x00") {
				// The fuzzer is not to write to places of its own, nor to read them.
				if a != "" && !strings.Contains(a, "state-dir") && !strings.Contains(a, "config") {
					argv = append(argv, a)
				}
			}
			code := Main(Env{Args: argv, Environ: environ, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Executable: "/nowhere/driver"})
			if code != 0 && code != 11 && code != 12 {
				t.Errorf("%q ends with %d: %s", argv, code, stderr.String())
			}
			if code != 0 && stderr.Len() == 0 {
				t.Errorf("%q ends with %d and says nothing", argv, code)
			}
			if stage == "config" && code == 0 && !json.Valid(stdout.Bytes()) && !strings.Contains(stdout.String(), "Usage:") {
				t.Errorf("%q prints %q", argv, stdout.String())
			}
			if strings.ContainsAny(stderr.String(), "\x00\x1b\r") {
				t.Errorf("%q says %q", argv, stderr.String())
			}
		}
	})
}
