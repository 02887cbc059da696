package manpage

import "testing"

func TestTextComesOutAsItIs(t *testing.T) {
	for _, c := range []struct {
		name  string
		write func(p *page)
		want  string
	}{
		{"flags and code", func(p *page) { p.text("use --no-x (or -x), `ssh JOB`, a-b") }, "use \\fB\\-\\-no\\-x\\fR (or \\fB\\-x\\fR), \\fBssh JOB\\fR, a\\-b\n"},
		{"sentences", func(p *page) { p.text("One.  Two\nof it. 3 is not another. (So.) End") }, "One.\nTwo of it. 3 is not another. (So.)\nEnd\n"},
		{"what would be a macro", func(p *page) { p.text(".gitlab-ci.yml") }, "\\&.gitlab\\-ci.yml\n"},
		{"a line of code that would be one", func(p *page) { p.verbatim([]string{".SH x", `'a\b' … ~^`}) },
			".EX\n\\&.SH x\n\\(aqa\\eb\\(aq \\[u2026] \\(ti\\(ha\n.EE\n"},
		{"long", func(p *page) {
			p.text("0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 .hidden")
		},
			"0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789\n\\&.hidden\n"},
		{"a paragraph at the start of a section and behind", func(p *page) { p.blocks([]string{"one", "", "two"}) }, "one\n.PP\ntwo\n"},
		{"a list and commands", func(p *page) { p.blocks([]string{"so:", "  job   jobs may", "  do it -- x"}) },
			"so:\n.TP\n\\fBjob\\fR\njobs may\n.PP\n.EX\n  do it \\-\\- x\n.EE\n"},
	} {
		p := &page{}
		c.write(p)
		if got := p.String(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
