package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is an agent whose programs write what output says and end when their context does, and whose heartbeats are answered by beat.
func scripted(output func(ctx context.Context, out io.Writer), beat func(ctx context.Context, n int, out io.Writer) (int, error)) (a *Agent, begun <-chan struct{}) {
	began := make(chan struct{})
	n := 0
	return NewAgent(func(ctx context.Context, argv []string, streams Streams) (int, error) {
		if slices.Contains(argv, beatProgram) {
			n++
			return beat(ctx, n, streams.Stdout)
		}
		close(began)
		if output != nil {
			output(ctx, streams.Stdout)
		}
		<-ctx.Done()
		return -1, ctx.Err()
	}), began
}

// runs answers heartbeats of a program that runs.
func runs(ctx context.Context, _ int, _ io.Writer) (int, error) {
	select {
	case <-time.After(heartbeatLength):
		return agentOK, nil
	case <-ctx.Done():
		return -1, ctx.Err()
	}
}

// hangs does not answer them.
func hangs(ctx context.Context, _ int, _ io.Writer) (int, error) {
	<-ctx.Done()
	return -1, ctx.Err()
}

func TestAProgramThatEndedIsNotKeptByItsOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beats := 0
		a, _ := scripted(nil, func(ctx context.Context, n int, out io.Writer) (int, error) {
			beats = n
			switch {
			case n < 3:
				return runs(ctx, n, out)
			case n == 4: // a heartbeat that fails is no answer
				return 1, nil
			}
			fmt.Fprintln(out, 7)
			return agentOK, nil
		})
		status, err := a.run(t.Context(), "true", nil, Streams{})
		if status != (Status{Code: 7}) || err != nil || beats != 6 {
			t.Errorf("got %+v, %v after %d heartbeats, want the status seen twice in a row", status, err, beats)
		}
	})
}

// TestWhatAProgramWroteIsWaitedFor has output that comes late, and a background process that never stops writing.
func TestWhatAProgramWroteIsWaitedFor(t *testing.T) {
	ended := func(_ context.Context, _ int, out io.Writer) (int, error) {
		fmt.Fprintln(out, 3)
		return agentOK, nil
	}
	synctest.Test(t, func(t *testing.T) {
		late := func(_ context.Context, out io.Writer) {
			time.Sleep(heartbeatDelay)
			for i := range 5 {
				time.Sleep(settleQuiet / 2)
				fmt.Fprintln(out, i)
			}
		}
		a, _ := scripted(late, ended)
		var out strings.Builder
		status, err := a.run(t.Context(), "true", nil, Streams{Stdout: &out})
		if status != (Status{Code: 3}) || err != nil || out.String() != "0\n1\n2\n3\n4\n" {
			t.Errorf("got %+v, %v, %q", status, err, out.String())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		endless := func(ctx context.Context, out io.Writer) {
			for ctx.Err() == nil {
				time.Sleep(settleQuiet / 10)
				fmt.Fprintln(out, "y")
			}
		}
		a, _ := scripted(endless, ended)
		began := time.Now()
		status, err := a.run(t.Context(), "true", nil, Streams{Stdout: io.Discard})
		if took := time.Since(began); status != (Status{Code: 3}) || err != nil || took > heartbeatDelay+2*drainLimit {
			t.Errorf("got %+v, %v after %s", status, err, took)
		}
	})
}

// slowReader takes its time for each write.
type slowReader struct{ strings.Builder }

func (s *slowReader) Write(p []byte) (int, error) {
	time.Sleep(3 * drainLimit)
	return s.Builder.Write(p)
}

func TestASlowReaderLosesNothingByAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &slowReader{}
		a, _ := scripted(func(_ context.Context, out io.Writer) {
			for i := range 3 {
				fmt.Fprintln(out, i)
			}
		}, func(_ context.Context, _ int, out io.Writer) (int, error) {
			fmt.Fprintln(out, 0)
			return agentOK, nil
		})
		if status, err := a.run(t.Context(), "true", nil, Streams{Stdout: out}); status != (Status{}) || err != nil || out.String() != "0\n1\n2\n" {
			t.Errorf("got %+v, %v, %q", status, err, out.String())
		}
	})
}

func TestAMuteGuestIsLost(t *testing.T) {
	for name, beat := range map[string]func(context.Context, int, io.Writer) (int, error){
		"hangs":               hangs,
		"client gives up":     func(context.Context, int, io.Writer) (int, error) { return 1, errors.New("is the agent running?") },
		"stream breaks":       func(context.Context, int, io.Writer) (int, error) { return 1, nil },
		"ends without status": func(context.Context, int, io.Writer) (int, error) { return 0, nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			a, _ := scripted(nil, beat)
			began := time.Now()
			status, err := a.run(t.Context(), "true", nil, Streams{})
			took := time.Since(began)
			if !errors.Is(err, ErrLost) || !errors.Is(err, errMute) || took < heartbeatLimit || took > heartbeatLimit+heartbeatLength+heartbeatPause {
				t.Errorf("%s: got %+v, %v after %s", name, status, err, took)
			}
		})
	}
}

func TestASlowGuestIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := scripted(nil, func(ctx context.Context, n int, out io.Writer) (int, error) {
			select {
			case <-time.After(heartbeatLimit - time.Second):
			case <-ctx.Done():
				return -1, ctx.Err()
			}
			if n > 10 {
				fmt.Fprintln(out, 3)
			}
			return agentOK, nil
		})
		began := time.Now()
		if status, err := a.run(t.Context(), "true", nil, Streams{}); status != (Status{Code: 3}) || err != nil || time.Since(began) < 10*heartbeatLimit {
			t.Errorf("got %+v, %v", status, err)
		}
	})
}

func TestALongSilentProgramIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, begun := scripted(nil, runs)
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-begun
			time.Sleep(5 * time.Hour)
			cancel(cause)
		}()
		if status, err := a.run(ctx, "true", nil, Streams{}); !errors.Is(err, cause) {
			t.Errorf("got %+v, %v", status, err)
		}
	})
}

func TestAStatusThatCannotBeReadIsWaitedForOnlySoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAgent(func(ctx context.Context, argv []string, streams Streams) (int, error) {
			if slices.Contains(argv, beatProgram) {
				return hangs(ctx, 0, nil)
			}
			return agentSeeFile, nil
		})
		if status, err := a.run(t.Context(), "true", nil, Streams{}); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "cannot be read") {
			t.Errorf("got %+v, %v", status, err)
		}
	})
}

func TestCloseEndsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, begun := scripted(nil, runs)
		if a.Cause() != nil {
			t.Errorf("lost before it is closed: %v", a.Cause())
		}
		go func() {
			<-begun
			a.Close()
			a.Close()
		}()
		status, err := a.run(t.Context(), "true", nil, Streams{})
		<-a.Lost()
		if !errors.Is(err, ErrLost) || !errors.Is(a.Cause(), ErrLost) {
			t.Errorf("got %+v, %v, the cause is %v", status, err, a.Cause())
		}
	})
}

func TestTheContextEndsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, begun := scripted(nil, runs)
		cause := errors.New("canceled")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-begun
			cancel(cause)
		}()
		if status, err := a.run(ctx, "true", nil, Streams{}); !errors.Is(err, cause) || errors.Is(err, ErrLost) {
			t.Errorf("got %+v, %v", status, err)
		}
	})
}

// reads lets an agent read a status file that holds content.
func reads(ctx context.Context, content string) (Status, bool, error) {
	return NewAgent(func(_ context.Context, argv []string, streams Streams) (int, error) {
		if !slices.Equal(argv, []string{"/bin/sh", "-c", beatProgram, "grtd", "file", "0"}) {
			return 0, fmt.Errorf("called with %q", argv)
		}
		_, err := io.WriteString(streams.Stdout, content)
		return agentOK, err
	}).beat(ctx, time.Now().Add(time.Minute), "file", 0)
}

func TestReadStatus(t *testing.T) {
	for content, want := range map[string]int{"0\n": 0, "7": 7, "255\n": 255, " 1 \n": 1} {
		if status, ok, err := reads(t.Context(), content); !ok || err != nil || status != (Status{Code: want}) {
			t.Errorf("%q: got %+v, %v, %v", content, status, ok, err)
		}
	}
	for _, content := range []string{"", "\n", "256\n", "-1\n", "x", "1 2", "0x1"} {
		if status, ok, err := reads(t.Context(), content); ok || err != nil {
			t.Errorf("%q: got %+v, %v, %v", content, status, ok, err)
		}
	}
}

func FuzzReadStatus(f *testing.F) {
	f.Add("255\n")
	f.Add("-0")
	f.Fuzz(func(t *testing.T, content string) {
		status, ok, err := reads(t.Context(), content)
		if err != nil || status.Code < 0 || status.Code > 255 || status.Signal != "" || !ok && status.Code != 0 {
			t.Errorf("%q: got %+v, %v, %v", content, status, ok, err)
		}
	})
}
