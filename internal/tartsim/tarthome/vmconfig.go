package tarthome

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Operating systems and defaults in config.json.
const (
	Darwin        = "darwin"
	Linux         = "linux"
	defaultFormat = "raw"
	megabyte      = 1 << 20
)

// MinimumMemory is the least memory Virtualization.framework accepts, in bytes.
const MinimumMemory = 4 * megabyte

// Display is a VM's screen.
type Display struct {
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Unit   string `json:"unit,omitempty"`
}

func (d Display) String() string { return fmt.Sprintf("%dx%d%s", d.Width, d.Height, d.Unit) }

// Config is config.json.
type Config struct {
	Version       int     `json:"version"`
	OS            string  `json:"os"`
	Arch          string  `json:"arch"`
	CPUMin        int     `json:"cpuCountMin"`
	CPU           int     `json:"cpuCount"`
	MemoryMin     uint64  `json:"memorySizeMin"`
	Memory        uint64  `json:"memorySize"`
	MAC           string  `json:"macAddress"`
	Display       Display `json:"display"`
	DisplayRefit  *bool   `json:"displayRefit,omitempty"`
	DiskFormat    string  `json:"diskFormat"`
	ECID          string  `json:"ecid,omitempty"`
	HardwareModel string  `json:"hardwareModel,omitempty"`
}

// NewConfig makes the configuration of a fresh VM.
func NewConfig(guestOS string, cpu int, memory uint64) *Config {
	c := &Config{
		Version: 1, OS: guestOS, Arch: "arm64", CPUMin: cpu, CPU: cpu, MemoryMin: memory, Memory: memory,
		MAC: RandomMAC(), Display: Display{Width: 1024, Height: 768}, DiskFormat: defaultFormat,
	}
	if guestOS == Darwin {
		c.ECID = RandomECID()
		c.HardwareModel = base64.StdEncoding.EncodeToString([]byte("tartsim hardware model"))
	}
	return c
}

func readConfig(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, System("The file “%s” couldn’t be opened because there is no such file.", ConfigName)
	}
	if err != nil {
		return nil, System("%v", err)
	}
	config := &Config{OS: Darwin, Arch: "arm64", DiskFormat: defaultFormat, Display: Display{Width: 1024, Height: 768}}
	if err := json.Unmarshal(data, config); err != nil {
		return nil, System("The data couldn’t be read because it isn’t in the correct format.")
	}
	if _, err := ParseMAC(config.MAC); err != nil {
		return nil, System("The data couldn’t be read because it isn’t in the correct format.")
	}
	return config, nil
}

// Save rewrites config.json in place, as tart does.
func (c *Config) Save(path string) error {
	data, err := SwiftJSON(c)
	if err != nil {
		return System("%v", err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return System("%s", foundationText(path, err))
	}
	return nil
}

// SetCPU sets the number of CPUs; there is a minimum and, as in tart, no maximum.
func (c *Config) SetCPU(count int) error {
	if minimum := max(c.CPUMin, 1); (c.OS == Darwin && count < minimum) || count < 1 {
		return System("LessThanMinimalResourcesError: VM should have %d CPU cores at minimum (requested %d)", minimum, count)
	}
	c.CPU = count
	return nil
}

// SetMemory sets the memory in bytes; there is a minimum and, as in tart, no maximum.
func (c *Config) SetMemory(size uint64) error {
	minimum := uint64(MinimumMemory)
	if c.OS == Darwin {
		minimum = max(c.MemoryMin, minimum)
	}
	if size < minimum {
		return System("LessThanMinimalResourcesError: VM should have %d bytes of memory at minimum (requested %d)", minimum, size)
	}
	c.Memory = size
	return nil
}

// RandomECID makes a machine identifier.
func RandomECID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails, see crypto/rand
	return base64.StdEncoding.EncodeToString(id)
}

// UUID makes a random identifier in the form macOS prints.
func UUID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
