package ciyaml

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"3600": time.Hour, "90 minutes": 90 * time.Minute, "1h 30m": 90 * time.Minute, "3 hours and 5 minutes": 185 * time.Minute, "1h30m": 90 * time.Minute,
		"2 days, 1 hour": 49 * time.Hour, "1.5h": 90 * time.Minute, "45 secs": 45 * time.Second, "1 WEEK": 168 * time.Hour, "10 mins": 10 * time.Minute,
	} {
		if got, err := Duration(in); err != nil || got != want {
			t.Errorf("%q: got %v %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "soon", "5 parsecs", "0", "0.5", "-5m", "1h x", "99999999 years", "1:30"} {
		if got, err := Duration(in); err == nil {
			t.Errorf("%q: got %v", in, got)
		}
	}
}
