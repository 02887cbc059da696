package tartcmd

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// fetchShares replaces shares that are URLs by directories: a gzipped tar is downloaded, cached by its URL for ever, and unpacked in tmp.
func (r *runner) fetchShares() error {
	for i, share := range r.shares {
		if !strings.HasPrefix(share.Path, "http://") && !strings.HasPrefix(share.Path, "https://") {
			continue
		}
		archive, err := r.fetchArchive(share.Path)
		if err != nil {
			return err
		}
		// The directory stays locked until this process ends.
		dir, _, err := r.home.TempDir(tarthome.UUID() + ".volume")
		if err != nil {
			return err
		}
		tar, err := r.lookPath("tar")
		if err != nil {
			return tarthome.Invalid("tar not found in PATH")
		}
		unpack := exec.Command(tar, "-xz", "-f", archive)
		unpack.Dir = dir
		if err := unpack.Run(); err != nil {
			return tarthome.Invalid("Unarchiving failed!")
		}
		r.println("Unarchived into a temporary directory!")
		r.shares[i].Path = dir
	}
	return nil
}

func (r *runner) fetchArchive(url string) (string, error) {
	sum := sha256.Sum256([]byte(url))
	path := filepath.Join(r.home.Dir, "cache", "tartsim-url-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(path); err == nil {
		r.println("Using cached archive for %s...", url)
		return path, nil
	}
	r.println("Downloading %s...", url)
	if err := download(url, path); err != nil {
		r.println("Download failed: %v", err)
		return "", tarthome.Invalid("Failed to fetch a remote archive!")
	}
	r.println("Cached for future invocations!")
	return path, nil
}

func download(url, path string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %s", response.Status)
	}
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
