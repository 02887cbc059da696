package settings

import (
	"strings"
	"time"
)

// longestDuration is as long as a number of seconds may be.
const longestDuration = 7 * 24 * time.Hour

// duration takes lengths of time as GitLab's own timeouts are written, with units.
// https://pkg.go.dev/time#ParseDuration
func duration(field func(*Settings) *time.Duration) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		d, err := time.ParseDuration(strings.TrimSpace(v))
		if err != nil || d < 0 || d > longestDuration {
			return "a duration such as 30m or 1h30m, up to a week, or 0"
		}
		*field(s) = d
		return ""
	}
}

// noLongerThan bounds a duration: a job may ask for no more than the operator's limit.
func noLongerThan(value, limit func(*Settings) time.Duration, limitName string) func(job, operator *Settings) string {
	return func(job, operator *Settings) string {
		most := limit(operator)
		switch {
		case value(job) <= most:
			return ""
		case most == 0:
			return "none at all (" + boundOrigin(operator, limitName) + ")"
		default:
			return "at most " + shortDuration(most) + " (" + boundOrigin(operator, limitName) + ")"
		}
	}
}

// shortDuration is 1h for what Go writes as 1h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
