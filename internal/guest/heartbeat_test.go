package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is an agent whose programs end when their context does, and whose status file is what beat says at each heartbeat.
func scripted(beat func(ctx context.Context, n int, out io.Writer) (int, error)) (a *Agent, begun <-chan struct{}) {
	began := make(chan struct{})
	n := 0
	return NewAgent(func(ctx context.Context, argv []string, streams Streams) (int, error) {
		if argv[0] == "/bin/cat" {
			n++
			return beat(ctx, n, streams.Stdout)
		}
		close(began)
		<-ctx.Done()
		return -1, ctx.Err()
	}), began
}

func TestAProgramThatEndedIsNotKeptByItsOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beats := 0
		a, _ := scripted(func(_ context.Context, n int, out io.Writer) (int, error) {
			beats = n
			switch {
			case n < 3: // still runs
				return 1, nil
			case n == 4: // one that fails is no answer
				return 1, errors.New("no connection")
			}
			fmt.Fprintln(out, 7)
			return 0, nil
		})
		status, err := a.run(t.Context(), "true", nil, Streams{})
		if status != (Status{Code: 7}) || err != nil || beats != 6 {
			t.Errorf("got %+v, %v after %d heartbeats, want the status seen twice in a row", status, err, beats)
		}
	})
}

func TestAMuteGuestIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := scripted(func(ctx context.Context, _ int, _ io.Writer) (int, error) {
			<-ctx.Done()
			return -1, ctx.Err()
		})
		began := time.Now() // of the test's own time
		status, err := a.run(t.Context(), "true", nil, Streams{})
		if took := time.Since(began); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), heartbeatLimit.String()) || took != heartbeatLimit {
			t.Errorf("got %+v, %v after %s", status, err, took)
		}
	})
}

func TestAGuestWhoseClientGivesUpIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := scripted(func(context.Context, int, io.Writer) (int, error) { return 1, errors.New("no agent") })
		began := time.Now()
		status, err := a.run(t.Context(), "true", nil, Streams{})
		if took := time.Since(began); !errors.Is(err, ErrLost) || took != heartbeatLimit {
			t.Errorf("got %+v, %v after %s", status, err, took)
		}
	})
}

func TestASlowGuestIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := scripted(func(ctx context.Context, n int, out io.Writer) (int, error) {
			select {
			case <-time.After(heartbeatLimit - heartbeatInterval - time.Second):
			case <-ctx.Done():
				return -1, ctx.Err()
			}
			if n > 10 {
				fmt.Fprintln(out, 3)
			}
			return 0, nil
		})
		if status, err := a.run(t.Context(), "true", nil, Streams{}); status != (Status{Code: 3}) || err != nil {
			t.Errorf("got %+v, %v", status, err)
		}
	})
}

func TestCloseEndsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, begun := scripted(func(context.Context, int, io.Writer) (int, error) { return 1, nil })
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
		a, begun := scripted(func(context.Context, int, io.Writer) (int, error) { return 1, nil })
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
		if len(argv) != 2 || argv[0] != "/bin/cat" || argv[1] != "file" {
			return 0, fmt.Errorf("called with %q", argv)
		}
		_, err := io.WriteString(streams.Stdout, content)
		return 0, err
	}).read(ctx, "file")
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
