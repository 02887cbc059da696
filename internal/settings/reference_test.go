package settings

import (
	"os"
	"testing"
)

// TestReferenceIsUpToDate compares the page in docs/ with the table it is made from.
func TestReferenceIsUpToDate(t *testing.T) {
	page, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != Reference() {
		t.Error("docs/settings.md is not what the table says: run `make docs`")
	}
}
