package microvm

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// archive writes a cpio archive in the form "newc", which the kernel unpacks as its first root.
type archive struct {
	out     io.Writer
	written int
	entries int
	err     error
}

const (
	directory  = 0o040755
	executable = 0o100755
	plainFile  = 0o100644
	link       = 0o120777
	trailer    = "TRAILER!!!"
)

// add appends an entry; the name has no slash at its start. Folders come before what lies in them.
func (a *archive) add(name string, mode uint32, data []byte) {
	a.entries++
	links := 1
	if mode == directory {
		links = 2
	}
	// ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
	header := []any{a.entries, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0}
	a.write(fmt.Appendf(nil, "070701"+strings.Repeat("%08x", len(header)), header...))
	a.write([]byte(name + "\x00"))
	a.pad()
	a.write(data)
	a.pad()
}

// addTree appends all that is below a folder, with the folders that lead there. Nobody but root is in the machine, so that only
// whether a file can be executed is kept of its rights.
func (a *archive) addTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		switch entry.Type() {
		case fs.ModeDir:
			a.add(name, directory, nil)
			return nil
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			a.add(name, link, []byte(target))
			return err
		default:
			info, err := entry.Info()
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			mode := uint32(plainFile)
			if info.Mode()&0o111 != 0 {
				mode = executable
			}
			a.add(name, mode, text)
			return err
		}
	})
}

// end closes the archive and gives the first error of all.
func (a *archive) end() error {
	a.add(trailer, 0, nil)
	return a.err
}

func (a *archive) pad() { a.write(make([]byte, -a.written&3)) }

func (a *archive) write(p []byte) {
	if a.err != nil {
		return
	}
	n, err := a.out.Write(p)
	a.written += n
	a.err = err
}
