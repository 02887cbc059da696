package ciyaml

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// job reads one job, which must be there.
func job(t *testing.T, text, name string) *Job {
	t.Helper()
	f, err := Parse("ci.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	j, err := f.Job(name)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func vars(j *Job) string {
	var out []string
	for _, v := range j.Variables {
		raw := ""
		if v.Raw {
			raw = " raw"
		}
		out = append(out, v.Key+"="+v.Value+raw)
	}
	return strings.Join(out, "; ")
}

func TestWholeJob(t *testing.T) {
	j := job(t, `
stages: [build, verify]
default:
  image:
    name: ghcr.io/o/macos:15
    entrypoint: [""]
    pull_policy: [always, if-not-present]
    docker: {platform: linux/arm64, user: 501}
  before_script: [echo before]
  after_script: [echo default after]
  timeout: 1h 30m
  hooks:
    pre_get_sources_script: echo hook
variables:
  GLOBAL: g
  PORT: 8080
  DESCRIBED: {value: d, description: text, options: [d, e]}
  RAW: {value: $GLOBAL, expand: false}
unit:
  stage: verify
  variables: {LOCAL: "1.10", GLOBAL: mine, BOTH: {expand: true, value: "2"}}
  script:
    - echo one
    - |
      if true; then
        echo two
      fi
    - [echo three, [echo four]]
  after_script: echo after
  services:
    - postgres:16
    - {name: redis, alias: cache, command: [redis-server], variables: {A: b}}
`, "unit")
	if j.Name != "unit" || j.Stage != "verify" || j.Timeout != 90*time.Minute {
		t.Errorf("%q %q %v", j.Name, j.Stage, j.Timeout)
	}
	if want := []string{"echo before", "echo one", "if true; then\n  echo two\nfi\n", "echo three", "echo four"}; !slices.Equal(j.Script, want) {
		t.Errorf("script %q", j.Script)
	}
	if !slices.Equal(j.AfterScript, []string{"echo after"}) || !slices.Equal(j.PreGetSources, []string{"echo hook"}) {
		t.Errorf("%q %q", j.AfterScript, j.PreGetSources)
	}
	if got, want := vars(j), "GLOBAL=g; PORT=8080; DESCRIBED=d; RAW=$GLOBAL raw; LOCAL=1.10; GLOBAL=mine; BOTH=2"; got != want {
		t.Errorf("variables %s", got)
	}
	i := j.Image
	if i.Name != "ghcr.io/o/macos:15" || !slices.Equal(i.Entrypoint, []string{""}) || !slices.Equal(i.PullPolicy, []string{"always", "if-not-present"}) || i.DockerPlatform != "linux/arm64" || i.DockerUser != "501" {
		t.Errorf("image %+v", i)
	}
	if len(j.Services) != 2 || j.Services[0].Name != "postgres:16" || j.Services[1].Alias != "cache" || j.Services[1].Command[0] != "redis-server" || j.Services[1].Variables.Value("A") != "b" {
		t.Errorf("services %+v", j.Services)
	}
	if len(j.Warnings) != 1 || !strings.HasPrefix(j.Warnings[0], "ci.yml:30: services is not honoured") {
		t.Errorf("warnings %q", j.Warnings)
	}
}

func TestWaysToShare(t *testing.T) {
	tests := []struct {
		name, yaml, script, vars string
	}{
		{"anchors", ".x: &x {script: [a], variables: {A: 1}}\nj: *x", "a", "A=1"},
		{"merge key", ".x: &x {script: [a], variables: {A: 1}}\nj:\n  <<: *x\n  script: [b]", "b", "A=1"},
		{"merge key counts where it stands", ".x: &x {script: [a]}\nj:\n  script: [b]\n  <<: *x", "a", ""},
		{"merge keys", ".x: &x {script: [a], variables: {A: 1}}\n.y: &y {script: [b], variables: {B: 1}}\nj:\n  <<: [*x, *y]", "a", "A=1"},
		{"anchor in a script", ".s: &s\n  - a\n  - b\nj:\n  script:\n    - *s\n    - c", "a b c", ""},
		{"old global keywords", "before_script: [a]\nimage: i\nj: {script: b}", "a b", ""},
		{"default wins over old global keywords", "before_script: [a]\ndefault: {before_script: [c]}\nj: {script: b}", "c b", ""},
		{"job wins over default", "default: {before_script: [a]}\nj: {before_script: [], script: b}", "b", ""},
		{"null takes a default away", "default: {before_script: [a]}\nj: {before_script: , script: b}", "b", ""},
		{"inherit nothing", "default: {before_script: [a]}\nvariables: {A: 1}\nj: {inherit: {default: false, variables: false}, script: b}", "b", ""},
		{"inherit something", "default: {before_script: [a], after_script: [x]}\nvariables: {A: 1, B: 2}\nj: {inherit: {default: [before_script], variables: [B]}, script: b}", "a b", "B=2"},
		{"extends", ".x: {script: [a], variables: {A: 1, B: 1}}\nj: {extends: .x, variables: {B: 2}}", "a", "A=1; B=2"},
		{"extends replaces lists", ".x: {script: [a, b]}\nj: {extends: .x, script: [c]}", "c", ""},
		{"extends several", ".x: {script: [a], variables: {A: 1, B: 1}}\n.y: {script: [b], variables: {B: 2}}\nj: {extends: [.x, .y]}", "b", "A=1; B=2"},
		{"extends in steps", ".x: {variables: {A: 1}}\n.y: {extends: .x, script: [a], variables: {B: 2}}\nj: {extends: .y, variables: {C: 3}}", "a", "A=1; B=2; C=3"},
		{"extends a job", "x: {script: [a]}\nj: {extends: x}", "a", ""},
		{"reference in a script", ".x: {script: [a, b]}\nj:\n  script:\n    - !reference [.x, script]\n    - c", "a b c", ""},
		{"reference as a script", ".x: {script: [a]}\nj:\n  script: !reference [.x, script]", "a", ""},
		{"reference to a reference", ".x: {script: [a]}\n.y:\n  script:\n    - !reference [.x, script]\n    - b\nj:\n  script:\n    - !reference [.y, script]\n    - c", "a b c", ""},
		{"reference sees extends", ".x: {script: [a]}\n.y: {extends: .x}\nj:\n  script: !reference [.y, script]", "a", ""},
		{"reference to variables", ".x: {variables: {A: 1, B: 2}}\nj:\n  variables: !reference [.x, variables]\n  script: a", "a", "A=1; B=2"},
		{"reference to one variable", ".x: {variables: {A: 1}}\nj:\n  variables: {Z: !reference [.x, variables, A]}\n  script: a", "a", "Z=1"},
		{"reference to a default", "default: {before_script: [a]}\nj:\n  before_script: !reference [default, before_script]\n  script: b", "a b", ""},
		{"last of two keys", "j: {script: a}\nj: {script: b}", "b", ""},
		{"YAML 1.1 numbers", "variables: {A: 010, B: 1_000, C: 0x1F, D: 12:30, E: -5, F: 0b11, G: '010', H: !!str 7}\nj: {script: a}", "a", "A=8; B=1000; C=31; D=750; E=-5; F=3; G=010; H=7"},
		{"words that look like nothing else", "variables: {A: y, B: 1.2.3, C: 0o17, D: 1e3, E: 'yes'}\nj: {script: a}", "a", "A=y; B=1.2.3; C=0o17; D=1e3; E=yes"},
		{"header with inputs", "spec:\n  inputs:\n    x:\n---\nj: {script: a}", "a", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := job(t, tt.yaml, "j")
			if got := strings.Join(j.Script, " "); got != tt.script {
				t.Errorf("script %q, want %q", got, tt.script)
			}
			if got := vars(j); got != tt.vars {
				t.Errorf("variables %q, want %q", got, tt.vars)
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	deep := "j:\n  script: " + strings.Repeat("[", 11) + "a" + strings.Repeat("]", 11)
	chain := "j: {extends: .e0}\n"
	for i := range 12 {
		chain += fmt.Sprintf(".e%d: {extends: .e%d}\n", i, i+1)
	}
	chain += ".e12: {script: a}\n"
	tests := []struct {
		name, yaml, want string
		line             int
		hint             bool
	}{
		{"syntax", "a: b\nc: [", "did not find expected node content", 2, false},
		{"colon in a script", "j:\n  script:\n    - echo a: b: c", "mapping values are not allowed", 3, true},
		{"a map in a script", "j:\n  script:\n    - 'x'\n    - echo a: b", "here is a map", 4, true},
		{"a boolean in a script", "j:\n  script:\n    - true", "here is the boolean true", 3, true},
		{"a number as a script", "j:\n  script: 5", "here is the number 5", 2, true},
		{"too deep", deep, "up to 10 levels deep", 2, true},
		{"no script", "x: 1\nj:\n  image: i", `job "j" has no script`, 3, false},
		{"a trigger", "j:\n  trigger: x", `job "j" has no script`, 2, true},
		{"steps", "j:\n  run: [x]", `job "j" has no script`, 2, true},
		{"empty", "", "the file is empty", 0, false},
		{"a list", "- a", "should be a map of keywords and jobs, it is a list", 1, false},
		{"anchor in itself", "j: &a\n  script: [*a]", `the anchor "a" contains itself`, 1, false},
		{"unknown tag", "j:\n  script: !shell ls", "unknown tag !shell", 2, false},
		{"extends nothing", "j:\n  extends: .x\n  script: a", "j: unknown keys in `extends` (.x)", 2, false},
		{"extends something included", "include: a.yml\nj:\n  extends: .x\n  script: a", "j: unknown keys in `extends` (.x)", 3, true},
		{"extends a list", ".x: [a]\nj:\n  extends: .x\n  script: a", "j: invalid base hashes in `extends` (.x)", 3, false},
		{"extends a number", "j:\n  extends: 5", "extends should be a name", 2, false},
		{"extends in a circle", ".x: {extends: .y}\n.y: {extends: .x}\nj:\n  extends: .x\n  script: a", "circular dependency detected in `extends`", 1, false},
		{"extends itself", "j:\n  extends: j\n  script: a", "circular dependency detected in `extends`", 2, false},
		{"extends too deep", chain, "nesting too deep in `extends`", 12, false},
		{"reference to nothing", "j:\n  script: !reference [.x, script]", "could not be found", 2, false},
		{"reference into a string", ".x: {script: a}\nj:\n  script: !reference [.x, script, b]", "could not be found", 3, false},
		{"reference to something included", "include: a.yml\nj:\n  script: !reference [.x, script]", "could not be found", 3, true},
		{"reference to itself", ".x:\n  script: !reference [.x, script]\nj:\n  script: !reference [.x, script]", "refers to itself", 2, false},
		{"reference without names", "j:\n  script: !reference []", "!reference should be a list of names", 2, false},
		{"reference that is no list", "j:\n  script: !reference x", "!reference should be a list of names", 2, false},
		{"a float as a variable", "j:\n  script: a\n  variables:\n    V: 1.10", "variable V should be a string or a whole number, it is the number 1.10", 4, true},
		{"a boolean as a variable", "variables:\n  V: yes\nj:\n  script: a", "it is the boolean true", 2, true},
		{"a date as a variable", "variables:\n  V: 2024-01-02\nj:\n  script: a", "it is the date 2024-01-02", 2, true},
		{"nothing as a variable", "variables:\n  V:\nj:\n  script: a", "it is empty", 2, true},
		{"variables are a list", "variables: [a]\nj:\n  script: a", "variables should be a map, it is a list", 1, false},
		{"expand is a word", "variables:\n  V: {value: a, expand: perhaps}\nj:\n  script: a", "expand of variable V should be a boolean", 2, false},
		{"image is a number", "j:\n  image: 5\n  script: a", "image should be a string or a map, it is the number 5", 2, false},
		{"image without a name", "j:\n  image: {entrypoint: [a]}\n  script: a", "image has no name", 2, false},
		{"image with more", "j:\n  image: {name: a, tart: x}\n  script: a", "image contains unknown keys: tart", 2, false},
		{"pull policy", "j:\n  image: {name: a, pull_policy: sometimes}\n  script: a", `it is "sometimes"`, 2, false},
		{"services", "j:\n  services: {a: b}\n  script: a", "services should be a list, it is a map", 2, false},
		{"timeout", "j:\n  timeout: soon\n  script: a", `timeout should be a duration, it is a string "soon"`, 2, true},
		{"stage", "j:\n  stage: [a]\n  script: a", "stage should be a string, it is a list", 2, false},
		{"inherit", "j:\n  inherit: {default: perhaps}\n  script: a", "inherit:default should be a boolean or a list of names", 2, false},
		{"default", "default: [a]\nj:\n  script: a", "default should be a map, it is a list", 1, false},
		{"a merge key with a string", "j:\n  <<: x\n  script: a", "<< should name a map", 2, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("ci.yml", []byte(tt.yaml))
			if err == nil {
				_, err = f.Job("j")
			}
			var mistake *Error
			if !errors.As(err, &mistake) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(mistake.Text, tt.want) || mistake.Line != tt.line || (mistake.Hint != "") != tt.hint {
				t.Errorf("got %v (hint %q), want line %d: %s", mistake, mistake.Hint, tt.line, tt.want)
			}
			if prefix := fmt.Sprintf("ci.yml:%d: ", tt.line); tt.line > 0 && !strings.HasPrefix(err.Error(), prefix) {
				t.Errorf("%q does not start with %q", err, prefix)
			}
		})
	}
}

func TestJobsAndTheirNames(t *testing.T) {
	f, err := Parse("ci.yml", []byte("stages: [a]\n.hidden: {script: a}\nb 1: {script: a}\ninclude: x\nworkflow: {rules: []}\na: {script: b}\npages: {script: c}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.JobNames(), ","); got != "b 1,a,pages" {
		t.Errorf("got %s", got)
	}
	_, err = f.Job("c")
	var unknown *UnknownJobError
	if !errors.As(err, &unknown) || err.Error() != `ci.yml: no job "c"; there are b 1, a, pages; files under include: are not read` {
		t.Errorf("got %v", err)
	}
	if _, err = f.Job(".hidden"); err == nil || !strings.Contains(err.Error(), "is hidden") {
		t.Errorf("got %v", err)
	}
	if _, err = f.Job("workflow"); err == nil {
		t.Error("workflow is no job")
	}
}

func TestWhatIsNotHonouredIsNamed(t *testing.T) {
	j := job(t, `include: x.yml
workflow: {rules: []}
default: {cache: {key: a}, tags: [mac], retry: 2}
j:
  script: a
  services: [s]
  artifacts: {paths: [a]}
  needs: [b]
  dependencies: []
  rules: [{when: always}]
  parallel: {matrix: [{A: [1]}]}
  secrets: {}
  id_tokens: {}
  environment: production
  release: {}
  allow_failure: true
  when: manual
  coverage: /x/
  sausages: 3
  only:
  variables: {a-b: c}
`, "j")
	all := strings.Join(j.Warnings, "\n")
	for _, want := range []string{
		"ci.yml:6: services is not honoured", "ci.yml:7: artifacts", "ci.yml:8: needs", "ci.yml:9: dependencies", "ci.yml:10: rules", "ci.yml:11: parallel",
		"ci.yml:12: secrets", "ci.yml:13: id_tokens", "ci.yml:14: environment", "ci.yml:15: release", "ci.yml:19: sausages is not a keyword known here",
		"ci.yml:3: cache", "ci.yml:3: retry", "ci.yml:5: without effect on a single job: allow_failure, coverage, tags, when", "ci.yml:1: include", "ci.yml:2: workflow",
		`ci.yml:21: no shell can have a variable named "a-b"`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q", want)
		}
	}
	if n := len(j.Warnings); n != 17 {
		t.Errorf("%d warnings:\n%s", n, all)
	}
	if j = job(t, "j: {script: a, stage: s, image: i, timeout: 5m}", "j"); len(j.Warnings) != 0 {
		t.Errorf("warnings for nothing: %q", j.Warnings)
	}
}

func TestLinesAreBounded(t *testing.T) {
	text := ".a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 'b'; i <= 'h'; i++ {
		text += fmt.Sprintf(".%c: &%c [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*%c,", i-1), 10))
	}
	f, err := Parse("ci.yml", []byte(text+"j: {script: *h}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.Job("j"); err == nil || !strings.Contains(err.Error(), "more than 100000 lines") {
		t.Errorf("got %v", err)
	}
	text = ".a: {s: [x]}\n"
	for i := 'b'; i <= 'i'; i++ {
		text += fmt.Sprintf(".%c: {s: [%s]}\n", i, strings.Repeat(fmt.Sprintf("!reference [.%c, s],", i-1), 10))
	}
	if f, err = Parse("ci.yml", []byte(text+"j: {script: !reference [.i, s]}\n")); err != nil {
		t.Fatal(err)
	}
	if _, err = f.Job("j"); err == nil || !strings.Contains(err.Error(), "more than 1000000 values") {
		t.Errorf("got %v", err)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ci.yml")
	if err := os.WriteFile(path, []byte("j: {script: [a b, "), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.HasPrefix(err.Error(), path+":") {
		t.Errorf("got %v", err)
	}
	if _, err := Load(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("j: {script: [a, !reference [.x, script]]}\n.x: {extends: j}")
	f.Add("a: &a {<<: *a}\nj: *a")
	f.Add("variables: {A: 0x, B: 1:2:3, C: 0b, D: -0, E: 08}\nj: {script: a}")
	f.Add("---\nspec: {}\n---\nj:\n  script: |\n    a\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("f", []byte(text))
		if err != nil {
			return
		}
		for _, name := range file.JobNames() {
			job, err := file.Job(name)
			if err == nil && len(job.Script) == 0 {
				t.Fatalf("job %q has no script", name)
			}
		}
	})
}
