package lifecycle

import (
	"testing"
	"testing/quick"

	"gitlab-runner-tart-driver/internal/tart"
)

func TestShareOfTheHost(t *testing.T) {
	for _, c := range []struct{ cpus, memory, n, cpu, mb int }{
		{8, 16384, 1, 8, 14336},
		{8, 16384, 2, 4, 7168},
		{10, 32768, 3, 3, 9557},
		{8, 8192, 1, 8, 6144}, // 2 GB are for the host at least
		{8, 65536, 1, 8, 57344},
		{4, 16384, 8, 1, 1792},
		{1, 1024, 1, 1, 0}, // nothing to give: it is left to the image
		{8, 0, 2, 4, 0},
	} {
		if cpu, mb := share(c.cpus, c.memory, c.n); cpu != c.cpu || mb != c.mb {
			t.Errorf("%d CPUs and %d MB among %d: got %d and %d, want %d and %d", c.cpus, c.memory, c.n, cpu, mb, c.cpu, c.mb)
		}
	}
	property := func(cpus, memory uint16, n uint8) bool {
		vms := int(n%64) + 1
		cpu, mb := share(int(cpus), int(memory), vms)
		return cpu >= 1 && mb >= 0 && (cpu == 1 || cpu*vms <= int(cpus)) && mb*vms <= max(0, int(memory)-2048)
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 5000}); err != nil {
		t.Error(err)
	}
}

func TestDescribeHardware(t *testing.T) {
	for want, opt := range map[string]tart.SetOptions{
		"":                    {},
		"4 CPUs":              {CPU: 4},
		"8192 MB, random MAC": {MemoryMB: 8192, RandomMAC: true},
		"display 1920x1200":   {Display: "1920x1200"},
		"4 CPUs, 8192 MB, display 800x600px, random MAC": {CPU: 4, MemoryMB: 8192, Display: "800x600px", RandomMAC: true},
	} {
		if got := describe(opt); got != want {
			t.Errorf("%+v: got %q, want %q", opt, got, want)
		}
	}
}
