package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FreeBytes is the room on the disk that path is on, as far as this user may fill it. Where path does not exist yet, the directory that it
// will be made in counts. macOS could make more by removing local snapshots and caches; it is not sure to, and so they count as taken.
func FreeBytes(path string) (int64, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if err == nil {
			return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // the types differ between systems
		}
		if !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return 0, fmt.Errorf("free space at %s: %w", path, err)
		}
		path = filepath.Dir(path)
	}
}
