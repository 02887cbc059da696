package doctor

import (
	"os"
	"testing"
)

func TestReferenceIsUpToDate(t *testing.T) {
	raw, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(raw) != Reference() {
		t.Error("docs/doctor.md is not what the table says: run `gitlab-runner-tart-driver doctor --checks > docs/doctor.md`")
	}
}

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Table() {
		if c.ID == "" || c.Title == "" || c.Why == "" || c.look == nil || seen[c.ID] {
			t.Errorf("check %q: an id of its own, a title, a reason and a function are needed", c.ID)
		}
		if (c.mend == nil) != (c.Mends == "") {
			t.Errorf("check %q: mends %q", c.ID, c.Mends)
		}
		seen[c.ID] = true
	}
}
