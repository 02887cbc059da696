package ciyaml

import (
	"slices"
	"strings"
)

// maxNesting is how deep GitLab lets extends, !reference and lists in scripts be nested.
//
// Source: https://docs.gitlab.com/ci/yaml/#extends and https://docs.gitlab.com/ci/yaml/yaml_optimization/
const maxNesting = 10

// maxResolved bounds how many values !reference can put in, all in all.
const maxResolved = 1_000_000

// extend returns a top-level value with what it extends merged in. ancestors are the keys that led here.
func (f *File) extend(key string, ancestors []string) (*value, error) {
	if v, done := f.extended[key]; done {
		return v, nil
	}
	own := f.root.get(key)
	extends := own.get("extends")
	if own.kind != kindMap || extends == nil {
		f.extended[key] = own
		return own, nil
	}
	names, err := f.extendsNames(key, extends)
	if err != nil {
		return nil, err
	}
	switch {
	case slices.Contains(ancestors, key):
		return nil, f.errorf(extends.line, "%s: circular dependency detected in `extends`", key)
	case len(ancestors) > maxNesting:
		return nil, f.errorf(extends.line, "%s: nesting too deep in `extends`", key)
	}
	merged := &value{kind: kindMap, line: own.line}
	for _, name := range names {
		base, err := f.extend(name, append(slices.Clone(ancestors), key))
		if err != nil {
			return nil, err
		}
		merged = deepMerge(merged, base)
	}
	merged = deepMerge(merged, own)
	f.extended[key] = merged
	return merged, nil
}

// extendsNames reads the value of extends.
func (f *File) extendsNames(key string, extends *value) ([]string, error) {
	list := []*value{extends}
	if extends.kind == kindList {
		list = extends.list
	}
	var names, unknown, invalid []string
	for _, item := range list {
		if item.kind != kindString {
			return nil, f.errorf(item.line, "%s: extends should be a name or a list of names, it is %s", key, item.describe())
		}
		names = append(names, item.text)
		if base := f.root.get(item.text); base == nil {
			unknown = append(unknown, item.text)
		} else if base.kind != kindMap {
			invalid = append(invalid, item.text)
		}
	}
	if len(unknown) > 0 {
		e := f.errorf(extends.line, "%s: unknown keys in `extends` (%s)", key, strings.Join(unknown, ", "))
		if f.root.get("include") != nil {
			e.Hint = "files under include: are not read, and that may be where they are"
		}
		return nil, e
	}
	if len(invalid) > 0 {
		return nil, f.errorf(extends.line, "%s: invalid base hashes in `extends` (%s)", key, strings.Join(invalid, ", "))
	}
	return names, nil
}

// deepMerge lays one map over another: maps are merged, everything else is replaced.
func deepMerge(under, over *value) *value {
	out := under
	for _, e := range over.entries {
		if old := out.get(e.key); old != nil && old.kind == kindMap && e.value.kind == kindMap {
			e.value = deepMerge(old, e.value)
		}
		out = out.with(e)
	}
	merged := *out
	merged.line = over.line
	return &merged
}

// resolve replaces the references in a value. They see the file with all extends merged in.
func (f *File) resolve(v *value, open [][]string) (*value, error) {
	if !v.refs {
		return v, nil
	}
	if f.resolved++; f.resolved > maxResolved {
		return nil, f.errorf(v.line, "!reference puts in more than %d values", maxResolved)
	}
	switch v.kind {
	case kindReference:
		for _, path := range open {
			if slices.Equal(path, v.path) {
				return nil, f.errorf(v.line, "!reference %q refers to itself", v.path)
			}
		}
		if len(open) >= maxNesting {
			return nil, f.errorf(v.line, "!reference %q is nested more than %d levels deep", v.path, maxNesting)
		}
		target, err := f.dig(v)
		if err != nil {
			return nil, err
		}
		return f.resolve(target, append(slices.Clone(open), v.path))
	case kindList:
		out := *v
		out.list = make([]*value, len(v.list))
		for i, item := range v.list {
			resolved, err := f.resolve(item, open)
			if err != nil {
				return nil, err
			}
			out.list[i] = resolved
		}
		return &out, nil
	case kindMap:
		out := *v
		out.entries = slices.Clone(v.entries)
		for i := range out.entries {
			resolved, err := f.resolve(out.entries[i].value, open)
			if err != nil {
				return nil, err
			}
			out.entries[i].value = resolved
		}
		return &out, nil
	default:
		return v, nil
	}
}

// dig finds what a reference names.
func (f *File) dig(ref *value) (*value, error) {
	missing := f.errorf(ref.line, "!reference %q could not be found", ref.path)
	if f.root.get("include") != nil {
		missing.Hint = "files under include: are not read, and that may be where it is"
	}
	if f.root.get(ref.path[0]) == nil {
		return nil, missing
	}
	at, err := f.extend(ref.path[0], nil)
	if err != nil {
		return nil, err
	}
	for _, key := range ref.path[1:] {
		if at = at.get(key); at == nil {
			return nil, missing
		}
	}
	if at.kind == kindNull {
		return nil, missing
	}
	return at, nil
}
