package lifecycle

import (
	"crypto/md5"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/image"
	"gitlab-runner-tart-driver/internal/tart"
)

const base = "r.example/o/base:15"

// newImages are the images of a host whose tart lists the base image where a file "there" is, and notes its calls in a file "calls". Its cache has no layout that
// we know.
func newImages(t *testing.T) (im *Images, home string) {
	t.Helper()
	client, home := fakeTart(t, `echo "$1" >> calls; [ "$1" = list ] || { : > there; exit 0; }; `+
		`rows=; [ -e there ] && rows='{"Source":"OCI","Name":"`+base+`"}'; echo "[$rows]"`)
	s := newStage(t, map[string]string{"disk-reserve": "0"})
	return &Images{Settings: s.Settings, State: s.State, Tart: client}, home
}

func mustParse(t *testing.T, name string) image.Reference {
	t.Helper()
	ref, err := image.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// TestAPullGoesOn: every command but pull and clone would have tart delete what a pull that was broken off has left.
func TestAPullGoesOn(t *testing.T) {
	for _, c := range []struct {
		name, image, policy string
		here                bool
		calls               string
	}{
		{"broken off", base, "if-not-present", false, ""},
		{"another image's", "r.example/o/other:15", "if-not-present", false, "list"},
		{"none is wanted", base, "never", true, "list"},
	} {
		im, home := newImages(t)
		for _, made := range []string{filepath.Join(".tart", "tmp", fmt.Sprintf("%x", md5.Sum([]byte(base)))), "there"} {
			if err := os.MkdirAll(filepath.Join(home, made), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		here, err := im.present(t.Context(), mustParse(t, c.image), []string{c.policy})
		if got := callsIn(t, home); err != nil || here != c.here || got != c.calls {
			t.Errorf("%s: got %v, %v, calls %q", c.name, here, err, got)
		}
	}
}

// TestOnePullForAll: who had to wait finds the image there, even where it is not seen in tart's cache.
func TestOnePullForAll(t *testing.T) {
	im, home := newImages(t)
	ref := mustParse(t, base)
	other, err := im.State.TurnToPull(t.Context(), ref.Name, host.Holder{JobID: "1"}, func(host.Holder) {})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	puller := im.puller(t.Context(), ref, image.Logins{Settings: im.Settings, Job: newStage(t, nil).Job}, host.Holder{JobID: "2"}, func(format string, args ...any) {
		said = append(said, fmt.Sprintf(format, args...))
		if len(said) == 1 { // it waits: now the other one is done
			if err := im.Tart.Pull(t.Context(), ref.Name, tart.PullOptions{}); err != nil {
				t.Error(err)
			}
			other.Release()
		}
	})
	done, err := puller.Ensure(t.Context(), ref, []string{"if-not-present"}, false)
	if err != nil || done != "pulled meanwhile by another job" || callsIn(t, home) != "pull list" {
		t.Errorf("got %q, %v, calls %q, said %q", done, err, callsIn(t, home), said)
	}
}
