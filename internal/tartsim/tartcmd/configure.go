package tartcmd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// set changes config.json. It takes no lock and leaves a saved state alone, even where the change makes it useless.
func (a *app) set() error {
	vm, err := a.home.OpenVM(a.args.Arg("name"))
	if err != nil {
		return err
	}
	config, err := vm.Config()
	if err != nil {
		return err
	}
	if a.args.Has("cpu") {
		if err := config.SetCPU(int(a.args.Uint("cpu", 0))); err != nil {
			return err
		}
	}
	if a.args.Has("memory") {
		if err := config.SetMemory(a.args.Uint("memory", 0) << 20); err != nil {
			return err
		}
	}
	if a.args.Has("display") {
		setDisplay(&config.Display, a.args.Value("display", ""))
	}
	config.DisplayRefit = nil
	if a.args.Has("display-refit") {
		refit := a.args.Value("display-refit", "") == "true"
		config.DisplayRefit = &refit
	}
	if a.args.Has("random-mac") {
		config.MAC = tarthome.RandomMAC()
	}
	if a.args.Has("random-serial") && config.OS == tarthome.Darwin {
		config.ECID = tarthome.RandomECID()
	}
	if err := config.Save(vm.Path(tarthome.ConfigName)); err != nil {
		return err
	}
	if err := a.replaceDisk(vm); err != nil {
		return err
	}
	if a.args.Has("disk-size") {
		return resizeDisk(vm, int64(a.args.Uint("disk-size", 0)))
	}
	return nil
}

// setDisplay takes what it can read of WIDTHxHEIGHT[pt|px]; bad numbers leave the old ones.
func setDisplay(display *tarthome.Display, text string) {
	unit := ""
	for _, suffix := range []string{"px", "pt"} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = rest, suffix
			break
		}
	}
	width, height, _ := strings.Cut(text, "x")
	if n, err := strconv.Atoi(width); err == nil && n > 0 {
		display.Width = n
	}
	if n, err := strconv.Atoi(height); err == nil && n > 0 {
		display.Height = n
	}
	display.Unit = unit
}

func (a *app) replaceDisk(vm *tarthome.VM) error {
	source := a.args.Value("disk", "")
	if source == "" {
		return nil
	}
	temp := filepath.Join(a.home.Tmp(), "set-disk-"+tarthome.UUID())
	if err := tarthome.CopyFile(source, temp); err != nil {
		return tarthome.System("The file “%s” couldn’t be opened because there is no such file.", filepath.Base(source))
	}
	if err := os.Rename(temp, vm.Path(tarthome.DiskName)); err != nil {
		return tarthome.System("%v", err)
	}
	return nil
}

func resizeDisk(vm *tarthome.VM, gigabytes int64) error {
	path := vm.Path(tarthome.DiskName)
	info, err := os.Stat(path)
	if err != nil {
		return tarthome.System("%v", err)
	}
	wanted := gigabytes * gigabyte
	if wanted < info.Size() {
		return tarthome.Failure("new disk size of %s should be larger than the current disk size of %s", byteCount(wanted), byteCount(info.Size()))
	}
	if wanted == info.Size() {
		return nil
	}
	if err := growFile(path, wanted); err != nil {
		return tarthome.System("%v", err)
	}
	return nil
}

// byteCount words a size as macOS does.
func byteCount(bytes int64) string {
	units := []struct {
		name     string
		size     int64
		decimals int
	}{{"TB", 1e12, 2}, {"GB", 1e9, 2}, {"MB", 1e6, 1}, {"KB", 1e3, 0}}
	for _, unit := range units {
		if bytes < unit.size {
			continue
		}
		text := strconv.FormatFloat(float64(bytes)/float64(unit.size), 'f', unit.decimals, 64)
		if strings.Contains(text, ".") {
			text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
		}
		return text + " " + unit.name
	}
	return strconv.FormatInt(bytes, 10) + " bytes"
}
