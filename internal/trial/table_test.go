package trial

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	r := &Result{Status: Failed, FailureReason: ScriptFailure, PrepareAttempts: 1, Duration: 3*time.Minute + 4*time.Second, Stages: []StageResult{
		{Name: "config", PID: 1, Duration: 12 * time.Millisecond},
		{Name: "build_script", PID: 2, Duration: 12345 * time.Millisecond, Err: &jobError{inner: fmt.Errorf("exit status 3"), reason: ScriptFailure}},
		{Name: "after_script", PID: 3, Duration: time.Second, Err: errors.New("exit status 2")},
		{Name: "cleanup", Err: errors.New("no such file")},
	}}
	var out strings.Builder
	if err := WriteTable(&out, r); err != nil {
		t.Fatal(err)
	}
	want := `STAGE         TIME   RESULT
config        0.01s  ok
build_script  12.3s  failed: exit status 3
after_script  1.00s  driver failed: exit status 2
cleanup       0.00s  not started: no such file
total         3m4s   failed: script_failure
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
	r = &Result{Status: Canceled, FailureReason: JobCanceled, PrepareAttempts: 2, Stages: []StageResult{{Name: "prepare", Attempt: 2, PID: 1}}}
	out.Reset()
	if err := WriteTable(&out, r); err != nil || !strings.Contains(out.String(), "prepare (attempt 2)  0.00s  ok\n") || !strings.HasSuffix(out.String(), "canceled\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
