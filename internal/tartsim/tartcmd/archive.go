package tartcmd

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// archived are the files in an exported VM. Its disk is there as its size only, and what a guest has written is left out: real exports
// are Apple archives that nothing here could read anyway.
var archived = []string{tarthome.ConfigName, tarthome.NVRAMName, simconf.ImageFile, tarthome.HostKeyName}

// diskSizeKey is the archive's record of the disk's size.
const diskSizeKey = "TARTSIM.disk-size"

func (a *app) export() error {
	vm, err := a.home.OpenVM(a.args.Arg("name"))
	if err != nil {
		return err
	}
	path := a.args.Arg("path")
	if path == "" {
		path = vm.Name + ".tvm"
		if _, err := os.Stat(path); err == nil {
			if !a.confirmOverwrite(path) {
				return nil
			}
		}
	}
	a.println("exporting...")
	if _, err := os.Stat(vm.Path(tarthome.TreeName)); err == nil {
		return tarthome.Failure("VM export failed: the stand-in can't export a VM whose guest has written files")
	}
	if err := writeArchive(vm, path); err != nil {
		return tarthome.Failure("VM export failed: %v", err)
	}
	return nil
}

// confirmOverwrite asks whether to overwrite a file. At the end of its input Tart crashes; here that means no.
func (a *app) confirmOverwrite(path string) bool {
	a.print("file " + path + " already exists, are you sure you want to overwrite it? (yes, [no])? ")
	answer := make([]byte, 4)
	n, err := io.ReadFull(a.Stdin, answer)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	return string(answer[:min(n, 3)]) == "yes"
}

func writeArchive(vm *tarthome.VM, path string) error {
	disk, err := os.Stat(vm.Path(tarthome.DiskName))
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	packed := gzip.NewWriter(file)
	archive := tar.NewWriter(packed)
	for _, name := range archived {
		data, err := os.ReadFile(vm.Path(name))
		if err != nil {
			continue
		}
		header := &tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), PAXRecords: map[string]string{diskSizeKey: fmt.Sprint(disk.Size())}}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(data); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), packed.Close(), file.Sync())
}

func (a *app) importVM() error {
	dir, lock, err := a.home.TempDir(tarthome.UUID())
	if err != nil {
		return err
	}
	defer lock.Close()
	a.cancelWith(func() { _ = tarthome.RemoveTree(dir) })
	a.println("importing...")
	if err := readArchive(a.args.Arg("path"), dir); err != nil {
		return tarthome.Failure("VM import failed: %v", err)
	}
	global, err := a.home.Global()
	if err != nil {
		return err
	}
	defer global.Close()
	vm := &tarthome.VM{Dir: dir}
	newMAC, err := a.needsNewMAC(vm)
	if err != nil {
		return err
	}
	if newMAC {
		if err := vm.RegenerateMAC(); err != nil {
			return err
		}
	}
	return a.home.Place(dir, a.args.Arg("name"))
}

func readArchive(path, dir string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	packed, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	archive := tar.NewReader(packed)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(header.Name)), data, 0o600); err != nil {
			return err
		}
		var size int64
		if _, err := fmt.Sscan(header.PAXRecords[diskSizeKey], &size); err == nil {
			if err := growFile(filepath.Join(dir, tarthome.DiskName), size); err != nil {
				return err
			}
		}
	}
}
