package plan

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/proc/proctest"
	"gitlab-runner-tart-driver/internal/trial"
)

// A driver without isolation: the scripts run on this machine, in directories of the test.
const driver = `#!/bin/sh
case $1 in
config) printf '{"driver":{"name":"plain"},"builds_dir":"%s/builds","cache_dir":"%s/cache"}' "$ROOT" "$ROOT" ;;
prepare) echo "preparing $CUSTOM_ENV_CI_JOB_IMAGE" ;;
run) bash "$2" || { echo $? > "$BUILD_EXIT_CODE_FILE"; exit "$BUILD_FAILURE_EXIT_CODE"; } ;;
cleanup) rm -rf "$ROOT/builds" ;;
esac
`

func TestPlanRunsFromTheRepositoryToTheEnd(t *testing.T) {
	r := place(t, map[string]string{
		".gitlab-ci.yml": `
.base:
  before_script: [export STEP=one]
unit:
  extends: .base
  image: ghcr.io/o/$NAME:15
  variables: {NAME: macos}
  script:
    - !reference [.lines]
    - echo "$STEP $(cat file) $CI_COMMIT_BRANCH" > artifact
    - cat "$KEY"
    - exit 42
  after_script: ['echo "after: $CI_JOB_STATUS $(cat artifact)"']
.lines: [test -f file]
`, "file": "content\n", "key": "secret text\n"})
	commit(t, r)
	r.JobName, r.FileVariables = "unit", []string{"KEY=key"}
	p, err := Make(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	path := filepath.Join(root, "driver")
	if err := proctest.WriteProgram(path, []byte(driver), 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	result, err := trial.Run(t.Context(), p.Job, trial.Options{Driver: trial.SelfDriver(path), Environ: append(r.Environ, "ROOT="+root), TempDir: root, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if result.ExitCode != 42 || result.FailureReason != trial.ScriptFailure {
		t.Errorf("exit %d, %q (%v)\n%s", result.ExitCode, result.FailureReason, result.Err, out.String())
	}
	for _, want := range []string{"preparing ghcr.io/o/macos:15", "as detached HEAD (ref is main)...", "secret text\n", "after: failed one content main\n", "Job failed: exit status 42"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
