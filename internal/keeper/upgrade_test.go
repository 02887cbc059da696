package keeper

import (
	"encoding/json"
	"testing"

	"gitlab-runner-tart-driver/internal/host"
)

// TestMessagesOfTheFirstVersion are what a keeper and a stage of version 1 send. They must be understood as long as the version is 1, for a binary is
// upgraded while jobs run.
func TestMessagesOfTheFirstVersion(t *testing.T) {
	if ProtocolVersion != 1 {
		t.Skip("then these are refused, and the keeper is ended by a signal")
	}
	var r Request
	raw := `{"version":1,"op":"exec","job_key":"42-abc","shell":"/bin/zsh","ancestors":[{"pid":7,"start":8,"boot":"b"}],"of a later one":{}}`
	if err := json.Unmarshal([]byte(raw), &r); err != nil || r.Op != opExec || r.JobKey != "42-abc" || r.Shell != "/bin/zsh" || len(r.Ancestors) != 1 || r.Ancestors[0].PID != 7 {
		t.Errorf("got %+v, %v", r, err)
	}
	for op, known := range map[string]string{"commit": opCommit, "exec": opExec, "cancel": opCancel, "stop": opStop} {
		if op != known {
			t.Errorf("%s is called %s", op, known)
		}
	}
	var reply Reply
	raw = `{"version":1,"exit_code":7,"failed":{"job":true,"error":"e","hint":"h"},"of a later one":1}`
	if err := json.Unmarshal([]byte(raw), &reply); err != nil || reply.Version != 1 || reply.ExitCode != 7 || reply.Failed == nil || !reply.Failed.Job || reply.Failed.Error != "e" ||
		reply.Failed.Hint != "h" {
		t.Errorf("got %+v, %v", reply, err)
	}
	var rec host.Record
	raw = `{"vm":"v","job_key":"k","job_id":"1","created":"2026-01-02T03:04:05Z","prepare":{"pid":1,"start":2,"boot":"b"},"keeper":{"pid":3,"start":4,"boot":"b"},"run":{"pid":5,"start":6,"boot":"b"},"more":0}`
	if err := json.Unmarshal([]byte(raw), &rec); err != nil || rec.VM != "v" || rec.JobKey != "k" || rec.Prepare.PID != 1 || rec.Keeper.PID != 3 || rec.Run.PID != 5 {
		t.Errorf("got %+v, %v", rec, err)
	}
}
