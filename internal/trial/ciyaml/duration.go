package ciyaml

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration reads a duration as people write it in GitLab: "1h 30m", "3 hours and 5 minutes", "90 min"; a bare number means seconds.
//
// Source: https://docs.gitlab.com/ci/yaml/#timeout
func Duration(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	units := map[string]time.Duration{
		"": time.Second, "s": time.Second, "sec": time.Second, "second": time.Second,
		"m": time.Minute, "min": time.Minute, "minute": time.Minute, "h": time.Hour, "hr": time.Hour, "hour": time.Hour,
		"d": day, "day": day, "w": 7 * day, "wk": 7 * day, "week": 7 * day, "mo": 30 * day, "month": 30 * day, "y": 365 * day, "yr": 365 * day, "year": 365 * day,
	}
	rest := strings.ToLower(strings.TrimSpace(s))
	part := regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)[\s,]*(?:and\s+)?`)
	var sum float64
	for rest != "" {
		m := part.FindStringSubmatch(rest)
		if m == nil {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		unit, ok := units[m[2]]
		if !ok {
			unit, ok = units[strings.TrimSuffix(m[2], "s")]
		}
		number, err := strconv.ParseFloat(m[1], 64)
		if !ok || err != nil {
			return 0, fmt.Errorf("%q is not a duration: unknown unit %q", s, m[2])
		}
		sum += number * unit.Seconds()
		rest = rest[len(m[0]):]
	}
	if sum < 1 || sum > (10*365*day).Seconds() {
		return 0, fmt.Errorf("%q is not a duration between a second and ten years", s)
	}
	return time.Duration(sum * float64(time.Second)).Truncate(time.Second), nil
}
