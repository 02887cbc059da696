package lifecycle

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/proc"
)

func TestWaitsFor(t *testing.T) {
	wrapper, other, runner, shell := proc.ID{PID: 1001}, proc.ID{PID: 1002}, proc.ID{PID: 1003}, proc.ID{PID: 1004}
	for _, c := range []struct {
		name                string
		ancestors, ofConfig []proc.ID
		want                proc.ID
	}{
		{"runner", []proc.ID{runner, shell}, []proc.ID{runner, shell}, runner},
		{"runner behind wrappers", []proc.ID{wrapper, runner, shell}, []proc.ID{other, runner, shell}, runner},
		{"no config stage", []proc.ID{wrapper, runner}, nil, wrapper},
		{"nothing in common", []proc.ID{wrapper}, []proc.ID{other}, proc.ID{}},
		{"child of init", nil, nil, proc.ID{}},
	} {
		if got := waitsFor(c.ancestors, c.ofConfig); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestWhileWanted(t *testing.T) {
	cmd := exec.Command("sleep", "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	runner, err := proc.Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := whileWanted(t.Context(), runner, time.Millisecond)
	defer stop()
	if err := ctx.Err(); err != nil {
		t.Fatalf("ended under a living runner: %v", context.Cause(ctx))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("goes on without a runner")
	}
	if cause := context.Cause(ctx); !errors.Is(cause, errUnwanted) {
		t.Errorf("cause = %v", cause)
	}
}

func TestWhileWantedByNobodyKnown(t *testing.T) {
	ctx, stop := whileWanted(t.Context(), proc.ID{}, time.Millisecond)
	if err := ctx.Err(); err != nil {
		t.Errorf("ended: %v", context.Cause(ctx))
	}
	stop()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after stop: %v", err)
	}
}
