package ciyaml

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

func (b *builder) images() error {
	v, err := b.keyword("image")
	if err != nil {
		return err
	}
	if v != nil {
		image, err := b.image("image", v)
		if err != nil {
			return err
		}
		b.job.Image = image
	}
	v, err = b.keyword("services")
	if err != nil || v == nil {
		return err
	}
	if v.kind != kindList {
		return b.file.errorf(v.line, "services should be a list, it is %s", v.describe())
	}
	for _, item := range v.list {
		service, err := b.image("services", item)
		if err != nil {
			return err
		}
		b.job.Services = append(b.job.Services, *service)
	}
	return nil
}

// image reads an image or a service: a name, or a map with one.
func (b *builder) image(key string, v *value) (*Image, error) {
	if v.kind == kindString {
		return &Image{Name: v.text}, nil
	}
	if v.kind != kindMap {
		return nil, b.file.errorf(v.line, "%s should be a string or a map, it is %s", key, v.describe())
	}
	image := &Image{}
	for _, e := range v.entries {
		if err := b.imageEntry(image, key, e); err != nil {
			return nil, err
		}
	}
	if image.Name == "" {
		return nil, b.file.errorf(v.line, "%s has no name", key)
	}
	return image, nil
}

func (b *builder) imageEntry(image *Image, key string, e entry) (err error) {
	full := key + ":" + e.key
	switch e.key {
	case "name", "alias":
		if e.value.kind != kindString {
			return b.file.errorf(e.line, "%s should be a string, it is %s", full, e.value.describe())
		}
		if e.key == "name" {
			image.Name = e.value.text
		} else {
			image.Alias = e.value.text
		}
	case "entrypoint":
		image.Entrypoint, err = b.strings(full, e.value)
	case "command":
		image.Command, err = b.strings(full, e.value)
	case "variables":
		image.Variables, err = b.variableList(full, e.value)
	case "pull_policy":
		if image.PullPolicy, err = b.strings(full, e.value); err != nil {
			return err
		}
		for _, policy := range image.PullPolicy {
			if !slices.Contains([]string{"always", "if-not-present", "never"}, policy) {
				return b.file.errorf(e.line, "%s should be always, if-not-present or never, it is %q", full, policy)
			}
		}
	case "docker":
		image.DockerPlatform, image.DockerUser = text(e.value.get("platform")), text(e.value.get("user"))
	case "kubernetes":
		image.KubernetesUserID = text(e.value.get("user"))
	default:
		return b.file.errorf(e.line, "%s contains unknown keys: %s", key, e.key)
	}
	return err
}

func text(v *value) string {
	if v == nil {
		return ""
	}
	return v.text
}

// rest reads what is left of what is honoured.
func (b *builder) rest() error {
	if v, err := b.keyword("stage"); err != nil {
		return err
	} else if v != nil {
		if v.kind != kindString {
			return b.file.errorf(v.line, "stage should be a string, it is %s", v.describe())
		}
		b.job.Stage = v.text
	}
	v, err := b.keyword("timeout")
	if err != nil || v == nil {
		return err
	}
	timeout, err := Duration(v.text)
	if err != nil || v.kind != kindString && v.kind != kindInt {
		e := b.file.errorf(v.line, "timeout should be a duration, it is %s %q", v.describe(), v.text)
		e.Hint = `write it as in "1h 30m" or "90 minutes"`
		return e
	}
	b.job.Timeout = timeout
	return nil
}

// unhonoured says why a keyword that changes what a job does has no effect here.
func unhonoured(keyword string) (reason string, known bool) {
	reason, known = map[string]string{
		"services":     "the driver gets them as from GitLab, but nothing else starts them",
		"cache":        "nothing is restored or saved",
		"artifacts":    "nothing is uploaded, and reports are not read",
		"needs":        "artifacts of other jobs are not fetched",
		"dependencies": "artifacts of other jobs are not fetched",
		"rules":        "they are not evaluated, and their variables are not set",
		"parallel":     "the job runs once, without the variables of a matrix",
		"secrets":      "they are not fetched",
		"id_tokens":    "they are not issued",
		"environment":  "CI_ENVIRONMENT_* variables are not set, and nothing is deployed",
		"release":      "no release is made",
		"pages":        "no site is published",
		"publish":      "no site is published",
		"inputs":       "they are not filled in",
		"run":          "only script is run",
		"trigger":      "no pipeline is started",
		"retry":        "the job runs once",
	}[keyword]
	return reason, known
}

// honoured are the keywords of a job that have an effect here; elsewhere those that have none for a single job.
func honoured() []string {
	return []string{"script", "before_script", "after_script", "image", "variables", "extends", "inherit", "stage", "timeout", "hooks"}
}

func elsewhere() []string {
	return []string{"only", "except", "when", "start_in", "allow_failure", "interruptible", "resource_group", "tags", "coverage", "manual_confirmation",
		"identity", "type", "dast_configuration"}
}

func (b *builder) warnf(line int, format string, args ...any) {
	where := b.file.name
	if line > 0 {
		where = fmt.Sprintf("%s:%d", b.file.name, line)
	}
	b.job.Warnings = append(b.job.Warnings, where+": "+fmt.Sprintf(format, args...))
}

// warn names every keyword of the job, of the defaults it inherits, and of the file that has no effect.
func (b *builder) warn() {
	var quiet []string
	seen := map[string]bool{}
	for _, e := range slices.Concat(b.own.entries, b.defaults.entries) {
		reason, known := unhonoured(e.key)
		switch {
		case seen[e.key], slices.Contains(honoured(), e.key), e.value.kind == kindNull:
		case known:
			b.warnf(e.line, "%s is not honoured: %s", e.key, reason)
		case slices.Contains(elsewhere(), e.key):
			quiet = append(quiet, e.key)
		default:
			b.warnf(e.line, "%s is not a keyword known here, and has no effect", e.key)
		}
		seen[e.key] = true
	}
	if len(quiet) > 0 {
		sort.Strings(quiet)
		b.warnf(b.own.line, "without effect on a single job: %s", strings.Join(quiet, ", "))
	}
	if v := b.file.root.get("include"); v != nil {
		b.warnf(v.line, "include is not honoured: only this file is read")
	}
	if v := b.file.root.get("workflow"); v != nil {
		b.warnf(v.line, "workflow is not honoured: its rules are not evaluated, and their variables are not set")
	}
	if b.file.spec {
		b.warnf(1, "spec is not honoured: inputs are not filled in")
	}
}
