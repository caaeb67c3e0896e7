package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"
)

// POST code: the files of the bundle as they come, written below FN_CODE. Where anything is wrong with them, what was
// written is removed.

type codePhase string

const (
	noCode        codePhase = "none"
	receivingCode codePhase = "receiving"
	receivedCode  codePhase = "received"
)

type codeFile struct {
	Path       *string  `json:"path"`
	Size       *float64 `json:"size"`
	Executable bool     `json:"executable"`
}

// What is wrong with the body, and the status that it is answered with.
type badCode struct {
	status int
	detail string
}

func (b *badCode) Error() string { return b.detail }

func invalidCode(format string, args ...any) error {
	return &badCode{http.StatusUnprocessableEntity, fmt.Sprintf(format, args...)}
}

func tooMuchCode(format string, args ...any) error {
	return &badCode{http.StatusRequestEntityTooLarge, fmt.Sprintf(format, args...)}
}

func (s *Shim) receiveCode(w http.ResponseWriter, r *http.Request) {
	forbid := func() {
		problem(w, http.StatusForbidden, "forbidden", "Not allowed", "This instance takes no code, or not from you.", "")
	}
	if !s.isNonce(r.Header.Get("Fn-Nonce")) || !s.beginCode() {
		discard(r.Body)
		forbid()
		return
	}
	writer := &codeWriter{folder: s.codeFolder, made: map[string]bool{}}
	kept, err := s.endCode(writer, writer.receive(r))
	var bad *badCode
	switch {
	case kept:
		sendJSON(w, http.StatusOK, map[string]any{"files": writer.files, "bytes": writer.bytes})
	case err == nil:
		forbid()
	case errors.As(err, &bad):
		discard(r.Body)
		if bad.status == http.StatusRequestEntityTooLarge {
			problem(w, bad.status, "body-too-large", "Body too large", bad.detail, "")
		} else {
			problem(w, bad.status, "invalid", "Invalid input", bad.detail, "")
		}
	case isFileError(err):
		discard(r.Body)
		s.logs.system("error", "the shim failed on POST /.fn/code: "+err.Error())
		problem(w, http.StatusInternalServerError, "internal", "Internal error", "The shim failed.", "")
	default:
		panic(http.ErrAbortHandler) // the client went away
	}
}

func (s *Shim) beginCode() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != generic || s.code != noCode {
		return false
	}
	s.code = receivingCode
	return true
}

// Whether it is kept: a drain may have come in between. Otherwise there is nothing of it, and another may be sent.
func (s *Shim) endCode(writer *codeWriter, err error) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := err == nil && s.state == generic
	if wanted {
		err = inWords(writer.seal())
	}
	if wanted && err == nil {
		s.code = receivedCode
		return true, nil
	}
	writer.remove()
	s.code = noCode
	return false, err
}

// What still comes is read and thrown away: were the connection closed, the answer could be lost.
func discard(body io.Reader) {
	_, _ = io.CopyN(io.Discard, body, maxCodeIndexBytes+maxCodeBytes) // fails where the client goes away, or at the end
}

func isFileError(err error) bool {
	var file *os.PathError
	return errors.As(err, &file)
}

// Takes the body apart: a line of JSON (CodeIndex of the contract), then the bytes of its files.
type codeWriter struct {
	folder string
	files  int
	bytes  int64
	// Folders of the code, parents first, and what was made directly in the folder.
	folders []string
	made    map[string]bool
}

// Fails with badCode, with what the file system says, or as the body does where it stops in the middle.
func (c *codeWriter) receive(r *http.Request) error {
	reader := bufio.NewReaderSize(r.Body, codeBufferBytes)
	line, err := readIndex(reader)
	if err != nil {
		return err
	}
	files, err := parseIndex(line)
	if err != nil {
		return err
	}
	if c.bytes, err = sumOf(files); err != nil {
		return err
	}
	if c.folders, err = checkPaths(files); err != nil {
		return err
	}
	c.files = len(files)
	if expected := int64(len(line)) + 1 + c.bytes; r.ContentLength >= 0 && r.ContentLength != expected {
		return invalidCode("the files have %d bytes with their list, the body has %d", expected, r.ContentLength)
	}
	return inWords(c.write(reader, files))
}

func (c *codeWriter) write(reader *bufio.Reader, files []codeFile) error {
	for _, folder := range c.folders {
		if err := os.Mkdir(c.path(folder), 0o755); err != nil {
			return err
		}
		c.keep(folder)
	}
	for _, file := range files {
		if err := c.writeFile(reader, file); err != nil {
			return err
		}
	}
	if _, err := reader.ReadByte(); err == nil {
		return invalidCode("the body is longer than its files")
	} else if err != io.EOF {
		return err
	}
	return nil
}

func (c *codeWriter) writeFile(reader io.Reader, file codeFile) error {
	mode := os.FileMode(0o444)
	if file.Executable {
		mode = 0o555
	}
	out, err := os.OpenFile(c.path(*file.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	c.keep(*file.Path)
	_, err = io.CopyN(out, reader, int64(*file.Size))
	if err == io.EOF {
		err = invalidCode("the body ends before its files do")
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}

// Nothing is to be changed any more, not by accident either. The folder itself may be a mount of somebody else's: then
// it stays as it is.
func (c *codeWriter) seal() error {
	for _, folder := range c.folders {
		if err := os.Chmod(c.path(folder), 0o555); err != nil {
			return err
		}
	}
	err := os.Chmod(c.folder, 0o555)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EROFS) {
		return nil
	}
	return err
}

func (c *codeWriter) remove() {
	for _, folder := range c.folders {
		_ = os.Chmod(c.path(folder), 0o755) // one that was not made yet has nothing to remove
	}
	for name := range c.made {
		_ = os.RemoveAll(c.path(name)) // what cannot be removed fails the next attempt, with words
	}
}

func (c *codeWriter) path(relative string) string {
	return filepath.Join(c.folder, relative)
}

// What was there before is not ours to remove.
func (c *codeWriter) keep(relative string) {
	top, _, _ := strings.Cut(relative, "/")
	c.made[top] = true
}

func inWords(err error) error {
	for _, number := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, number) {
			return tooMuchCode("there is no room for the code (%v)", number)
		}
	}
	for _, number := range []syscall.Errno{syscall.ENAMETOOLONG, syscall.EILSEQ, syscall.EINVAL} {
		if errors.Is(err, number) {
			return invalidCode("the file system cannot have such a path (%v)", number)
		}
	}
	return err
}

// The line without its end.
func readIndex(reader *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := reader.ReadSlice('\n')
		line = append(line, part...)
		if len(bytes.TrimSuffix(line, []byte("\n"))) > maxCodeIndexBytes {
			return nil, tooMuchCode("the list of files is over %d bytes", maxCodeIndexBytes)
		}
		switch err {
		case nil:
			return line[:len(line)-1], nil
		case bufio.ErrBufferFull:
		case io.EOF:
			return nil, invalidCode("the body has no line that lists its files")
		default:
			return nil, err
		}
	}
}

func parseIndex(line []byte) ([]codeFile, error) {
	var index struct {
		Files *[]codeFile `json:"files"`
	}
	if !json.Valid(line) {
		return nil, invalidCode("the list of files is not JSON")
	}
	if err := json.Unmarshal(line, &index); err != nil || index.Files == nil {
		return nil, invalidCode(`the list of files is not {"files": [{"path": text, "size": bytes, "executable"?: boolean}]}`)
	}
	if len(*index.Files) > maxCodeFiles {
		return nil, tooMuchCode("there are more than %d files", maxCodeFiles)
	}
	for _, file := range *index.Files {
		if file.Path == nil || file.Size == nil || *file.Size < 0 || *file.Size != math.Trunc(*file.Size) {
			return nil, invalidCode(`a file of the list is not {"path": text, "size": bytes, "executable"?: boolean}`)
		}
	}
	return *index.Files, nil
}

func sumOf(files []codeFile) (int64, error) {
	var sum float64
	for _, file := range files {
		sum += *file.Size
	}
	if sum > maxCodeBytes {
		return 0, tooMuchCode("the files have more than %d bytes", maxCodeBytes)
	}
	return int64(sum), nil
}

// The folders that they are in, parents first.
func checkPaths(files []codeFile) ([]string, error) {
	paths, known := map[string]bool{}, map[string]bool{}
	var folders []string
	for _, file := range files {
		path := *file.Path
		if !isBundlePath(path) {
			return nil, invalidCode("%q is no path of a file in a bundle", cut(path, 100))
		}
		if paths[path] {
			return nil, invalidCode("%q is in the list twice", cut(path, 100))
		}
		paths[path] = true
		for end, letter := range path {
			if letter != '/' || known[path[:end]] {
				continue
			}
			known[path[:end]] = true
			folders = append(folders, path[:end])
		}
		if len(folders) > maxCodeFolders {
			return nil, tooMuchCode("there are more than %d folders", maxCodeFolders)
		}
	}
	for _, folder := range folders {
		if paths[folder] {
			return nil, invalidCode("%q is a file and a folder", cut(folder, 100))
		}
	}
	return folders, nil
}

func isBundlePath(path string) bool {
	if utf8.RuneCountInString(path) > maxCodePath || strings.Contains(path, "\x00") {
		return false
	}
	for _, segment := range strings.Split(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}
