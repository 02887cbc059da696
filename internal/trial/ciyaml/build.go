package ciyaml

import (
	"fmt"
	"slices"

	"gitlab-runner-tart-driver/internal/trial/civar"
)

// maxLines bounds how many lines a script can have after all aliases and references are put in.
const maxLines = 100_000

// builder puts a job together.
type builder struct {
	file     *File
	job      *Job
	own      *value // the job with all extends merged in
	defaults *value // default:, with the old global keywords
}

func (b *builder) build() error {
	if err := b.findDefaults(); err != nil {
		return err
	}
	if err := b.scripts(); err != nil {
		return err
	}
	if err := b.variables(); err != nil {
		return err
	}
	if err := b.images(); err != nil {
		return err
	}
	if err := b.rest(); err != nil {
		return err
	}
	b.warn()
	return nil
}

// findDefaults merges default: with the keywords that once stood at the top level, and keeps what the job inherits.
func (b *builder) findDefaults() error {
	merged := &value{kind: kindMap}
	for _, key := range []string{"image", "services", "before_script", "after_script", "cache"} {
		if v := b.file.root.get(key); v != nil {
			merged = merged.with(entry{key: key, line: v.line, value: v})
		}
	}
	if v := b.file.root.get("default"); v != nil {
		if v.kind != kindMap {
			return b.file.errorf(v.line, "default should be a map, it is %s", v.describe())
		}
		for _, e := range v.entries {
			merged = merged.with(e)
		}
	}
	inherits, err := b.inherits("default")
	if err != nil {
		return err
	}
	b.defaults = &value{kind: kindMap}
	for _, e := range merged.entries {
		if inherits(e.key) {
			b.defaults = b.defaults.with(e)
		}
	}
	return nil
}

// inherits reads inherit:default or inherit:variables.
func (b *builder) inherits(what string) (func(key string) bool, error) {
	v := b.own.get("inherit").get(what)
	if v == nil {
		return func(string) bool { return true }, nil
	}
	v, err := b.file.resolve(v, nil)
	if err != nil {
		return nil, err
	}
	switch v.kind {
	case kindBool:
		return func(string) bool { return v.text == "true" }, nil
	case kindList:
		names, err := b.strings("inherit:"+what, v)
		return func(key string) bool { return slices.Contains(names, key) }, err
	default:
		return nil, b.file.errorf(v.line, "inherit:%s should be a boolean or a list of names, it is %s", what, v.describe())
	}
}

// keyword returns a keyword of the job, or the default for it, with all references resolved; nil where there is none.
func (b *builder) keyword(key string) (*value, error) {
	v := b.own.get(key)
	if v == nil {
		v = b.defaults.get(key)
	}
	if v == nil {
		return nil, nil
	}
	v, err := b.file.resolve(v, nil)
	if err != nil || v.kind == kindNull {
		return nil, err
	}
	return v, nil
}

func (b *builder) scripts() error {
	before, err := b.scriptOf("before_script")
	if err != nil {
		return err
	}
	main, err := b.scriptOf("script")
	if err != nil {
		return err
	}
	if len(main) == 0 {
		e := b.file.errorf(b.own.line, "job %q has no script", b.job.Name)
		switch {
		case b.own.get("trigger") != nil:
			e.Hint = "a job with trigger: starts a pipeline and runs nothing by itself"
		case b.own.get("run") != nil:
			e.Hint = "run: needs GitLab's step runner; only script: can be tried"
		}
		return e
	}
	b.job.Script = append(before, main...)
	if b.job.AfterScript, err = b.scriptOf("after_script"); err != nil {
		return err
	}
	hooks, err := b.keyword("hooks")
	if err != nil || hooks == nil {
		return err
	}
	if v := hooks.get("pre_get_sources_script"); v != nil {
		if b.job.PreGetSources, err = b.lines("hooks:pre_get_sources_script", v); err != nil {
			return err
		}
	}
	if v := hooks.get("post_get_sources_script"); v != nil {
		b.job.PostGetSources, err = b.lines("hooks:post_get_sources_script", v)
	}
	return err
}

func (b *builder) scriptOf(key string) ([]string, error) {
	v, err := b.keyword(key)
	if err != nil || v == nil {
		return nil, err
	}
	return b.lines(key, v)
}

// lines reads a script: a string, or a list of strings and of lists of strings.
func (b *builder) lines(key string, v *value) ([]string, error) {
	var out []string
	var add func(v *value, depth int) error
	add = func(v *value, depth int) error {
		switch {
		case v.kind == kindString && len(out) < maxLines:
			out = append(out, v.text)
		case v.kind == kindString:
			return b.file.errorf(v.line, "%s has more than %d lines", key, maxLines)
		case v.kind == kindList && depth < maxNesting:
			for _, item := range v.list {
				if err := add(item, depth+1); err != nil {
					return err
				}
			}
		default:
			e := b.file.errorf(v.line, "%s should be a string or a nested list of strings up to %d levels deep, here is %s", key, maxNesting, v.describe())
			e.Hint = `YAML takes a line with ": ", a number or a word such as "true" for something else: put the line between quotes`
			return e
		}
		return nil
	}
	err := add(v, 0)
	return out, err
}

// strings reads a string or a list of strings.
func (b *builder) strings(key string, v *value) ([]string, error) {
	list := []*value{v}
	if v.kind == kindList {
		list = v.list
	}
	var out []string
	for _, item := range list {
		if item.kind != kindString {
			return nil, b.file.errorf(item.line, "%s should be a list of strings, here is %s", key, item.describe())
		}
		out = append(out, item.text)
	}
	return out, nil
}

func (b *builder) variables() error {
	inherits, err := b.inherits("variables")
	if err != nil {
		return err
	}
	for _, from := range []struct {
		v      *value
		global bool
	}{{b.file.root.get("variables"), true}, {b.own.get("variables"), false}} {
		if from.v == nil {
			continue
		}
		list, err := b.variableList("variables", from.v)
		if err != nil {
			return err
		}
		for _, v := range list {
			if !from.global || inherits(v.Key) {
				b.job.Variables = append(b.job.Variables, v)
			}
		}
	}
	return nil
}

// variableList reads a map of variables, each a value or a map with its value.
func (b *builder) variableList(key string, v *value) (civar.List, error) {
	v, err := b.file.resolve(v, nil)
	if err != nil || v.kind == kindNull {
		return nil, err
	}
	if v.kind != kindMap {
		return nil, b.file.errorf(v.line, "%s should be a map, it is %s", key, v.describe())
	}
	var out civar.List
	for _, e := range v.entries {
		one := civar.Variable{Key: e.key, Public: true}
		val := e.value
		if val.kind == kindMap {
			if expand := val.get("expand"); expand != nil {
				if expand.kind != kindBool {
					return nil, b.file.errorf(expand.line, "expand of variable %s should be a boolean, it is %s", e.key, expand.describe())
				}
				one.Raw = expand.text == "false"
			}
			if val = val.get("value"); val == nil {
				val = &value{kind: kindString, line: e.line} // only described, to be filled in by hand
			}
		}
		if val.kind != kindString && val.kind != kindInt {
			bad := b.file.errorf(val.line, "variable %s should be a string or a whole number, it is %s", e.key, val.describe())
			bad.Hint = fmt.Sprintf("put the value between quotes: %s: %q", e.key, val.text)
			return nil, bad
		}
		one.Value = val.text
		if !civar.ValidKey(e.key) {
			b.warnf(e.line, "no shell can have a variable named %q: GitLab Runner's scripts fail on it", e.key)
		}
		out = append(out, one)
	}
	return out, nil
}
